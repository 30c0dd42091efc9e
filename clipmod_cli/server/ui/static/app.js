// Puts the page together: what comes in goes to the runner, what it says to the grid.

import { ask } from "./api.js";
import { Grid } from "./cards.js";
import { Details } from "./details.js";
import { byId } from "./dom.js";
import { droppedIn, filesOf, isUrl, pastedIn, sift, urlsIn } from "./intake.js";
import { recall, remember } from "./prefs.js";
import { Results } from "./results.js";
import { Runner } from "./runner.js";
import { health, configuration } from "./service.js";
import { notice, say, sections, themes } from "./shell.js";
import { statistics } from "./statistics.js";
import { Tools } from "./tools.js";
import { many } from "./words.js";

const results = new Results();
const categories = { labels: {}, unsafe: new Set() };
const blurred = () => recall("blur", "yes") === "yes";
const grid = new Grid(results, { open: (result) => details.open(result), labels: () => categories.labels, blurred });
const details = new Details({ results, categories, blurred, changed: () => grid.mark(), lost });
let formats = [];
let runner = null;

const told = {
  result: (task, answer) => results.add(task, { answer }),
  failed: (task, error) => results.add(task, { error }),
  changed: () => (tools.schedule(), grid.schedule()),
  ended(reason) {
    tools.draw();
    grid.draw();
    if (reason?.status === 401) lost();
    else if (reason && reason.name !== "AbortError") {
      notice(reason.status ? reason.message : "The service cannot be reached.", ["Try again", again]);
    }
    say(tools.sentence());
  },
};
const tools = new Tools(results, grid, { runner: () => runner, clear, again });

function again() {
  notice("");
  runner.start();
}

function clear() {
  runner?.clear();
  results.clear();
  grid.clear();
  tools.draw();
  notice("");
  say("Cleared");
  byId("choose").focus();
}

/** The key's day is over: the login page, or a way there that keeps what is on this page. */
function lost() {
  if (!results.all.length) location.assign("/ui/login");
  else notice("Your session has ended. Log in again, then go on here; the results stay.", ["Log in", "/ui/login"]);
}

function takeFiles(found, lostNames = []) {
  const { wanted, left } = sift(found, formats);
  const said = [];
  if (left) said.push(`${many(left, "file", "files")} of the folder left out: no picture.`);
  if (lostNames.length) said.push(`Could not be read: ${lostNames.slice(0, 5).join(", ")}.`);
  if (!wanted.length && !said.length) said.push("There was no file in it.");
  take(wanted, said.join(" "));
}

function takeUrls(urls) {
  const bad = urls.filter((url) => !isUrl(url));
  for (const url of bad) results.add({ name: url }, { error: "This is no http or https address" });
  take(urls.filter(isUrl).map((url) => ({ url, name: url })));
}

function take(tasks, said = "") {
  if (!runner) return notice("The service cannot be reached.", ["Try again", begin]);
  notice(said);
  if (tasks.length) say(`Analysing ${many(tasks.length, "picture", "pictures")}`), runner.add(tasks);
  return told.changed();
}

function wireIntake() {
  for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", ({ target }) => {
      takeFiles(filesOf(target));
      target.value = "";
    });
  }
  byId("by-url").addEventListener("submit", (event) => {
    event.preventDefault();
    takeUrls(urlsIn(byId("urls").value));
    byId("urls").value = "";
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData?.files.length) takeFiles(pastedIn(clipboardData));
  });
  wireDrops();
}

function wireDrops() {
  const zone = byId("zone");
  const mark = (over) => zone.classList.toggle("over", over);
  document.addEventListener("dragover", (event) => (event.preventDefault(), mark(true)));
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && mark(false));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(false);
    if (location.hash.length > 1) location.hash = "#analyse";
    const link = event.dataTransfer.getData("text/uri-list");
    const { found, lost: unread } = await droppedIn(event.dataTransfer);
    if (!found.length && !unread.length && isUrl(link)) byId("urls").value += `${link}\n`;
    else takeFiles(found, unread);
  });
}

async function begin() {
  try {
    const config = await ask("/config");
    const { limits } = config;
    const known = Object.entries(config.triple_model_ensemble.classification_categories);
    categories.labels = Object.fromEntries(known.map(([name, one]) => [name, one.label]));
    categories.unsafe = new Set(known.filter(([, one]) => one.safety === "UNSAFE").map(([name]) => name));
    formats = limits.formats;
    byId("files").accept = ["image/*", ...formats.map((ending) => `.${ending}`)].join(",");
    byId("limits").textContent = `Up to ${config.max_image_size_mb} MB each: ${formats.join(", ")}.`;
    runner = new Runner({
      files: limits.streaming_files, urls: limits.urls,
      bytes: Math.min(limits.streaming_size_mb, config.max_total_request_size_mb) * 2 ** 20,
      imageBytes: config.max_image_size_mb * 2 ** 20,
    }, told);
    notice("");
  } catch (error) {
    if (error.status === 401) return lost();
    notice(error.status ? error.message : "The service cannot be reached.", ["Try again", begin]);
  }
}

function wireBlur() {
  byId("blur").checked = blurred();
  byId("blur").addEventListener("change", ({ target }) => {
    remember("blur", target.checked ? "yes" : "no");
    for (const result of results.all) result.revealed = false;
    grid.mark();
  });
}

themes();
sections({ statistics, health, configuration }, { lost });
wireIntake();
wireBlur();
begin();
