// The page around its sections: which one is shown, the colours, notices, and what is said aloud.

import { UNREACHABLE } from "./api.js";
import { byId, make } from "./dom.js";
import { recall, remember } from "./prefs.js";

const AGAIN_MS = 10_000; // statistics.js counts on it
const THEMES = { auto: "Colours: device", light: "Colours: light", dark: "Colours: dark" };

/** Shows a sentence until the next one or none; `action` is [words, what to do]. */
export function notice(text, action = null) {
  const box = byId("notice");
  const parts = [make("span", {}, text)];
  if (action) parts.push(buttonOf(...action));
  box.replaceChildren(...(text ? parts : []));
  box.hidden = !text;
}

function buttonOf(words, what) {
  const button = make("button", { type: "button", className: "quiet" }, words);
  button.addEventListener("click", what);
  return button;
}

/** Has a screen reader say something when it is done with what it says. */
export const say = (text) => (byId("said").textContent = text);

/** Wires the sections; `fillers` give by name what one shows, asked again while it is looked at. */
export function sections(fillers, { lost }) {
  const names = [...document.querySelectorAll("main > section")].map((section) => section.id);
  const current = () => (names.includes(location.hash.slice(1)) ? location.hash.slice(1) : names[0]);
  const fill = async (name) => {
    if (!fillers[name]) return;
    const body = byId(`${name}-body`);
    try {
      body.replaceChildren(...(await fillers[name]()));
    } catch (error) {
      if (error.status === 401) return lost(() => fill(name));
      const text = error.status ? error.message : UNREACHABLE;
      body.replaceChildren(make("p", { className: "notice fault" }, text));
    }
  };
  let now = current();
  const show = (focus) => {
    now = current();
    for (const name of names) byId(name).hidden = name !== now;
    for (const link of document.querySelectorAll("nav a[href^='#']")) {
      if (link.hash === `#${now}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const title = byId(`${now}-title`);
    document.title = `${title.textContent} – clipmod`;
    if (focus) title.focus({ preventScroll: true }), scrollTo(0, 0);
    fill(now);
  };
  addEventListener("hashchange", () => location.hash !== "#main" && show(true));
  setInterval(() => document.visibilityState === "visible" && now !== "configuration" && fill(now), AGAIN_MS);
  show(false);
}

export function themes() {
  const button = byId("theme");
  const names = Object.keys(THEMES);
  let now = recall("theme", "auto");
  const apply = () => {
    if (!names.includes(now)) now = "auto";
    if (now === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = now;
    byId("theme-words").textContent = THEMES[now];
  };
  button.addEventListener("click", () => {
    now = names[(names.indexOf(now) + 1) % names.length];
    remember("theme", now);
    apply();
  });
  apply();
}
