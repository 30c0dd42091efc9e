// The page of a review: shows what the queue gives, blurred, and sends what a person decides.

import { get, post } from "./api.js";
import { confirmMinor, isOpen, tellMinor } from "./dialogs.js";
import { Frames } from "./frames.js";
import { Grid } from "./grid.js";
import { Hold } from "./hold.js";
import { NearCopies } from "./near.js";

const at = (id) => document.getElementById(id);

const WAIT_MS = 700;

let state = null;
let colour = false;
let isBusy = false;
let isLoading = false;
let isFinished = false;
let seenMs = 0;
let seenSince = 0;

const hold = new Hold(at("sharp"), report);
const frames = new Frames(showFrame);
const grid = new Grid(report);
const near = new NearCopies((item) => load(item));

function report(error) {
  at("fault").textContent = error.message;
  at("fault").hidden = false;
}

const say = (text) => { at("said").textContent = text; };

// Only while the page is looked at.
function countSeen() {
  const now = performance.now();
  if (seenSince) seenMs += now - seenSince;
  seenSince = document.visibilityState === "visible" ? now : 0;
}
document.addEventListener("visibilitychange", countSeen);

const tellBusy = () => { document.body.ariaBusy = String(isBusy || isLoading); };

// One request at a time: a key that is pressed twice decides once.
async function act(work) {
  if (isBusy || isFinished) return;
  isBusy = true;
  tellBusy();
  try {
    await work();
    at("fault").hidden = true;
  } catch (error) {
    report(error);
    if (error.status === 409) await show(await get("/api/state"));
  } finally {
    isBusy = false;
    tellBusy();
  }
}

async function show(next) {
  state = next;
  hold.end();
  at("counts").textContent = [
    `${state.done.toLocaleString("en")} done`,
    `${state.left.toLocaleString("en")} left`,
    `${state.minutes} min`,
    state.missing ? `${state.missing.toLocaleString("en")} gone` : "",
  ].filter(Boolean).join(" · ");
  at("progress").value = state.done / Math.max(state.done + state.left, 1);
  showCategories();
  const item = state.item;
  at("one").hidden = grid.isOpen || item === null;
  at("end").hidden = grid.isOpen || item !== null;
  if (item === null || grid.isOpen) setLoading(false);
  if (item === null) {
    frames.set([]);
    near.clear();
    tellEnd("The queue is empty", "All of it is decided. Finish ends clipmod review.");
    return;
  }
  if (!grid.isOpen) showItem(item);
}

function showCategories() {
  for (const place of document.querySelectorAll(".categories")) {
    if (place.childElementCount) continue;
    place.append(...state.categories.slice(0, 9).map((one, number) => {
      const button = document.createElement("button");
      const key = document.createElement("kbd");
      key.textContent = number + 1;
      button.type = "button";
      button.className = one.label;
      button.dataset.label = one.label;
      button.dataset.category = one.name;
      button.append(key, ` ${one.text}`);
      return button;
    }));
  }
}

function showItem(item) {
  seenMs = 0;
  seenSince = 0;
  setColour(false); // each one is grey at first
  near.set(item, state.near);
  load(item);
}

function tellItem(item) {
  hold.end();
  at("blurred").removeAttribute("src");
  at("note").textContent = "";
  at("name").textContent = item.name;
  at("copies").textContent = item.copies > 1 ? `${item.copies} files have these bytes; the decision is for all.` : "";
  tellVerdict(item);
  frames.set([]);
}

// A long film takes a while: until then it can be passed over as unsure, and not be decided unseen.
// Nor before its near copies are on the page too.
async function load(item) {
  const { item: first } = state;
  const isShown = () => state.item === first && near.viewed === item && !grid.isOpen;
  tellItem(item);
  setLoading(true);
  const timer = setTimeout(() => { at("note").textContent = "Decoding it takes a while. ? goes on."; }, WAIT_MS);
  try {
    const picture = await get(`/api/picture/${item.id}`);
    if (!isShown()) return;
    at("note").textContent = picture.note ? `No picture: ${picture.note}.` : "";
    frames.set(picture.frames);
    showFrame();
    if (frames.count) await at("blurred").decode().catch(() => {}); // replaced meanwhile
    await near.ready;
    countSeen();
    near.note(item);
    if (isShown()) setLoading(false);
  } catch (error) {
    if (isShown()) report(error);
  } finally {
    clearTimeout(timer);
  }
}

function setLoading(on) {
  isLoading = on;
  for (const button of at("decide").querySelectorAll("[data-label]")) {
    button.disabled = on && button.dataset.label !== "unsure";
  }
  at("hold").disabled = at("colour").disabled = on || !frames.count;
  tellBusy();
}

function tellVerdict(item) {
  const verdict = at("verdict");
  const words = { nsfw: "NSFW", review: "To review", error: "Not judged", safe: "Safe", undecided: "No decision" };
  if (item.drawn) {
    verdict.textContent = "A check";
    at("why").textContent = "Drawn at random from all that was judged. What the machine said is not shown.";
    return;
  }
  verdict.textContent = [words[item.outcome], item.category].filter(Boolean).join(": ");
  if (item.score !== null) {
    const score = document.createElement("span");
    score.className = "score";
    score.textContent = item.score.toFixed(2);
    verdict.append(" ", score);
  }
  const why = [
    item.error || item.reasons,
    item.hits,
    item.threshold === null ? "" : `NSFW from ${item.threshold}`,
  ].filter(Boolean);
  at("why").textContent = why.length ? `${why.join(". ")}.` : "";
}

function showFrame() {
  hold.end();
  if (near.viewed && frames.count) at("blurred").src = `/api/blurred/${near.viewed.id}/${frames.number}?colour=${colour}`;
}

function tellEnd(title, text) {
  at("end").querySelector("h1").textContent = title;
  at("end").querySelector("p").textContent = text;
}

function setColour(on) {
  colour = on;
  at("colour").setAttribute("aria-pressed", colour);
}

function toggleColour() {
  if (grid.isOpen) return grid.toggleColour();
  setColour(!colour);
  showFrame();
}

const nameOf = (label, category) => category?.replaceAll("_", " ") ?? label;

const decide = (label, category = null) => act(async () => {
  const text = nameOf(label, category);
  if (grid.isOpen) {
    const next = await grid.decide(label, category, text);
    if (next === null) return;
    state = next;
    say(`${text}. ${next.left} left`);
    await openGrid();
    return;
  }
  if (!state?.item || (isLoading && label !== "unsure")) return;
  if (label === "safe" && near.showUnlooked()) {
    say("The machine judged this near copy otherwise");
    return;
  }
  countSeen();
  const all = isLoading ? [] : near.seen;
  const body = { id: state.item.id, label, category, seconds: seenMs / 1000, near: all, looked: near.looked };
  const next = await post("/api/decide", body);
  say(`${text}. ${next.left} left`);
  await show(next);
});

const undo = () => act(async () => {
  const next = await post("/api/undo");
  say(next.undone ? "Undone" : "Nothing to undo");
  if (grid.isOpen) {
    state = next;
    await openGrid();
  } else {
    await show(next);
  }
});

async function openGrid() {
  hold.end();
  frames.stop();
  at("one").hidden = at("end").hidden = true;
  at("many").hidden = false;
  if (!await grid.open(state.must_type)) return closeGrid();
  await show(state);
}

async function closeGrid() {
  grid.close();
  at("many").hidden = true;
  await show(await get("/api/state"));
}

const withhold = () => act(async () => {
  const item = (grid.isOpen ? grid.itemOf(grid.focused) : state?.item) ?? null;
  if (item === null || !await confirmMinor(item.near_copies)) return;
  const { id } = item;
  at("blurred").removeAttribute("src");
  near.clear();
  grid.remove(id);
  let next = await post("/api/minor", { id, confirmed: true, seconds: seenMs / 1000 });
  next.withheld.forEach((one) => grid.remove(one));
  say("Withheld");
  if (await tellMinor()) next = await post("/api/minor/undo", { id, confirmed: true });
  if (grid.isOpen) {
    state = next;
    await openGrid();
  } else {
    await show(next);
  }
});

const finish = () => act(async () => {
  await post("/api/finish");
  isFinished = true;
  hold.end();
  grid.close();
  at("blurred").removeAttribute("src");
  near.clear();
  at("one").hidden = at("many").hidden = at("finish").hidden = at("end-undo").hidden = true;
  at("end").hidden = false;
  tellEnd("Finished", "All decisions are written. This page can be closed.");
});

for (const [id, work] of Object.entries({
  undo, "grid-undo": undo, "end-undo": undo, finish, minor: withhold, colour: toggleColour,
  "open-grid": () => act(openGrid), "close-grid": () => act(closeGrid),
})) {
  at(id).addEventListener("click", work);
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-label]");
  if (button && !button.disabled) decide(button.dataset.label, button.dataset.category);
  if (event.detail && !event.target.closest(".tile, dialog")) document.activeElement?.blur?.();
});

const held = () => (near.viewed && frames.count ? [near.viewed.id, frames.number, colour] : null);
hold.on(at("hold"), held);
hold.on(at("picture"), held);

// The letter of a key, also where the layout has another alphabet.
const keyOf = (event) => (
  event.key.length === 1 && event.key > "~" ? event.code.replace(/^Key/, "").toLowerCase() : event.key.toLowerCase()
);

const KEYS = {
  u: () => decide("unsafe"),
  s: () => decide("safe"),
  "?": () => decide("unsure"),
  z: undo,
  m: withhold,
  c: toggleColour,
  g: () => act(grid.isOpen ? closeGrid : openGrid),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isOpen()) return;
  const key = keyOf(event);
  if (key === "b") {
    if (event.repeat) return;
    if (grid.isOpen) grid.beginHold();
    else if (held()) hold.begin(...held());
    return;
  }
  const work = KEYS[key] ?? otherKey(key, event);
  if (!work) return;
  event.preventDefault();
  if (!event.repeat) work();
});
document.addEventListener("keyup", (event) => {
  if (keyOf(event) !== "b") return;
  hold.end();
  grid.endHold();
});

function otherKey(key, event) {
  const category = /^[1-9]$/.test(key) ? state?.categories[key - 1] : null;
  if (category) return () => decide(category.label, category.name);
  if (grid.isOpen) {
    if (key === "a") return () => grid.pickAll();
    if (key === "escape") return () => act(closeGrid);
    if (key.startsWith("arrow")) return () => grid.move(event.key);
    return null;
  }
  if (key === "n") return () => near.next();
  if (key === " ") return () => frames.toggle();
  if (key === "arrowleft") return () => frames.step(-1);
  if (key === "arrowright") return () => frames.step(1);
  return null;
}

act(async () => show(await get("/api/state")));
