// The pop-up of one result: what each model says, when, of what, and the service's own words.

import { judgeFile, UNREACHABLE } from "./api.js";
import { byId, draw, make, table, terms } from "./dom.js";
import { advice, badges, scoreBar, shareRows } from "./marks.js";
import { addressOf, covered, release } from "./pictures.js";
import { count, duration, percent, size } from "./words.js";

const NOT_KEPT = {
  off: "no: this service keeps no pictures",
  denied: "no: a list of known content denies it",
  metadata: "no: its metadata cannot be removed",
  quota: "no: there is no room for it",
  storage: "no: the disk is full or fails",
};

export class Details {
  constructor({ results, categories, blurSafe, changed, lost }) {
    Object.assign(this, { results, categories, blurSafe, changed, lost, result: null, address: null });
    this.dialog = byId("details");
    byId("close").addEventListener("click", () => this.dialog.close());
    byId("earlier").addEventListener("click", () => this.step(-1));
    byId("later").addEventListener("click", () => this.step(1));
    this.dialog.addEventListener("close", () => this.leave());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  open(result) {
    this.leave();
    this.result = result;
    byId("details-title").textContent = result.name;
    this.address = addressOf(result);
    this.fill();
    const around = this.results.shown();
    const at = around.indexOf(result);
    byId("earlier").disabled = at <= 0;
    byId("later").disabled = at < 0 || at === around.length - 1;
    if (!this.dialog.open) this.dialog.showModal();
    byId("details-body").scrollTop = 0;
  }

  leave() {
    release(this.address);
    Object.assign(this, { address: null, result: null });
    byId("details-body").replaceChildren();
  }

  step(by) {
    const around = this.results.shown();
    const next = around[around.indexOf(this.result) + by];
    if (next) this.open(next);
  }

  key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && !event.target.closest("pre, .scroll")) this.step(by);
  }

  fill() {
    const { result } = this;
    const parts = [this.picture(), badges(result), ...advice(result)];
    if (result.error) parts.push(this.errorFacts());
    else parts.push(scoreBar(result.answer), ...this.models(), this.facts());
    byId("details-body").replaceChildren(...parts, this.raw());
  }

  errorFacts() {
    const { error, file, url } = this.result;
    return terms([
      ["The service said", error.message], ["Code", error.code && make("code", {}, error.code)],
      ["File", file && size(file.size)], ["Address", url],
    ]);
  }

  picture() {
    const { result, blurSafe, changed } = this;
    const box = covered(result, this.address, { className: "large", blurSafe, changed });
    this.outline(box);
    return box;
  }

  /** Draws what a detector saw over the picture, where both have the same size. */
  outline(box) {
    const image = box.querySelector("img");
    const { answer } = this.result;
    const seen = predictionsOf(answer).flatMap(([, said]) => said.detections ?? []);
    if (!image || !seen.length) return;
    image.addEventListener("load", () => {
      if (image.naturalWidth !== answer.width || image.naturalHeight !== answer.height) return;
      const boxes = seen.map(({ label, score, box: [x, y, width, height] }) =>
        draw("rect", { x, y, width, height }, draw("title", {}, `${label} ${percent(score)}`)));
      image.after(draw("svg", { viewBox: `0 0 ${answer.width} ${answer.height}`, "aria-hidden": "true" }, ...boxes));
    });
  }

  facts() {
    const { answer, file } = this.result;
    const full = Object.values(answer.results)[0];
    const agreement = full?.ensemble_prediction?.model_agreement;
    const link = answer.image_id && make("a", { href: `/image/${encodeURIComponent(answer.image_id)}`, target: "_blank",
      rel: "noopener" }, answer.image_expires_hours ? `for ${answer.image_expires_hours} h` : "open");
    const sides = answer.width === null ? "" : `${count(answer.width)} × ${count(answer.height)} `;
    const what = `${sides}${answer.format ?? ""}`;
    const models = `${Object.keys(answer.results).join(", ")}: ${answer.models_used.join(", ")}`;
    const { view } = answer;
    return terms([
      ["Category", `${this.categories.labels[answer.ensemble_category] ?? answer.ensemble_category}, ${percent(answer.confidence)}`],
      ["Unsafe score", `${percent(answer.unsafe_score)} (NSFW from ${percent(answer.threshold)})`],
      ["Models agree", agreement === undefined ? null : percent(agreement)],
      ["Judged by", answer.matches ? banksOf(answer) : models],
      ["Policy", answer.policy],
      ["Time", duration(answer.total_time_ms)],
      ["Picture", file ? `${what}, ${size(file.size)}` : what],
      ["Frames looked at", answer.frames_scored],
      ["Shown to the models", answer.coverage === null ? null : percent(answer.coverage)],
      ["Views scored", answer.views_scored],
      ["Decided by the view", view && `${view[2]} × ${view[3]} at ${view[0]}, ${view[1]}`],
      ["Address", answer.url],
      ["Kept by the service", link || NOT_KEPT[answer.image_not_hosted]],
      ["Prediction file", answer.prediction_file],
      ["SHA-256", make("code", {}, answer.sha256)],
    ]);
  }

  models() {
    const said = predictionsOf(this.result.answer);
    if (!said.length) return this.result.file && !this.result.answer?.matches ? [this.asking()] : [];
    return said.map(([name, one]) => this.model(name, one));
  }

  model(name, one) {
    const seen = (one.detections ?? []).map(({ label, score }) => [label, percent(score)]);
    const box = make("section", { className: "model" },
      make("h3", {}, name, make("span", { className: "dim" }, ` ${duration(one.inference_time_ms)}`)),
      shareRows(one.category_probabilities, this.categories));
    if (seen.length) box.append(table(`Seen by ${name}`, ["What", "Score"], seen));
    return box;
  }

  /** Returns a button for what the answers to many leave out. */
  asking() {
    const button = make("button", { type: "button", className: "quiet" }, "Show what each model says");
    const said = make("p", { className: "error-text", role: "alert" });
    const box = make("div", {}, button, said);
    const work = async () => {
      const { result } = this;
      button.disabled = true;
      button.textContent = "Asking …";
      said.textContent = "";
      try {
        this.results.replace(result, await judgeFile(result));
        this.changed();
        if (this.result === result) this.showModels();
      } catch (error) {
        button.disabled = false;
        button.textContent = "Show what each model says";
        if (error.status === 401) this.lost(work);
        else said.textContent = error.status ? error.message : UNREACHABLE;
      }
    };
    button.addEventListener("click", work);
    return box;
  }

  showModels() {
    this.fill();
    byId("close").focus(); // the button that had it is gone
    const body = byId("details-body"); // scrollIntoView would move the header away too
    body.scrollTop += body.querySelector(".model").getBoundingClientRect().top - body.getBoundingClientRect().top - 16;
  }

  raw() {
    const { answer, name, error } = this.result;
    const text = JSON.stringify(answer ?? { image: name, ...error }, null, 2);
    const pre = make("pre", { tabIndex: 0 }, text);
    const copy = make("button", { type: "button", className: "quiet" }, "Copy");
    copy.addEventListener("click", async () => {
      copy.textContent = (await copied(pre)) ? "Copied" : "Press Ctrl+C to copy";
    });
    return make("details", {}, make("summary", {}, "The answer as JSON"), copy, pre);
  }
}

/** Returns what each model said, by name; nothing where the answer is a short one. */
function predictionsOf(answer) {
  return Object.values(answer?.results ?? {}).flatMap((one) => Object.entries(one.per_model_predictions ?? {}));
}

/** Returns which banks of hashes decided, with what their entries say. */
function banksOf({ decided_by: kind, matches }) {
  const said = matches.map(({ bank, type, note }) => [bank, type, note].filter(Boolean).join(": "));
  return `${kind} bank ${said.join("; ")}`;
}

/** Puts an element's text on the clipboard; where that is forbidden, selects it and returns false. */
async function copied(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return false;
  }
}
