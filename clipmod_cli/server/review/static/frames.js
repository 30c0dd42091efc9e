// The frames of a film or an animation, one at a time: nothing plays by itself.

const STEP_MS = 700;
const at = (id) => document.getElementById(id);

const clock = (seconds) => {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

export class Frames {
  #times = [];
  #timer = 0;
  #show;
  number = 0;

  constructor(show) {
    this.#show = show;
    at("back").addEventListener("click", () => this.step(-1));
    at("next").addEventListener("click", () => this.step(1));
    at("play").addEventListener("click", () => this.toggle());
  }

  get count() {
    return this.#times.length;
  }

  set(times) {
    this.stop();
    this.#times = times;
    this.number = 0;
    at("frames").hidden = times.length < 2;
    this.#tell();
  }

  step(by) {
    if (this.count < 2) return;
    this.stop();
    this.#go(by);
  }

  toggle() {
    if (this.#timer) this.stop();
    else if (this.count > 1) {
      this.#timer = setInterval(() => this.#go(1), STEP_MS);
      at("play").lastElementChild.textContent = "Stop";
    }
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = 0;
    at("play").lastElementChild.textContent = "Play";
  }

  #go(by) {
    this.number = (this.number + by + this.count) % this.count;
    this.#tell();
    this.#show();
  }

  #tell() {
    const isFilm = this.#times.some((time) => time > 0);
    at("place").textContent = this.count > 1
      ? `${this.number + 1} of ${this.count}${isFilm ? `, at ${clock(this.#times[this.number])}` : ""}`
      : "";
  }
}
