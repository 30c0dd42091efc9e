// Puts the page together: what comes in goes to the runner, what it says to the grid.

import { ask, UNREACHABLE } from "./api.js";
import { watch } from "./banner.js";
import { Grid } from "./cards.js";
import { Details } from "./details.js";
import { byId } from "./dom.js";
import { wireIntake } from "./entries.js";
import { sift, isUrl } from "./intake.js";
import { chosenPolicy, nameJudges } from "./judging.js";
import { askForKey, wireKey } from "./key.js";
import { recall, remember } from "./prefs.js";
import { Results } from "./results.js";
import { Runner } from "./runner.js";
import { health, configuration } from "./service.js";
import { notice, say, sections, themes } from "./shell.js";
import { statistics } from "./statistics.js";
import { Tools } from "./tools.js";
import { many } from "./words.js";

const SAY_MS = 15_000; // between words of progress for those who hear it

const OWN_FAULTS = new Set(["model_error", "non_finite_score", "internal_error", "out_of_memory"]);

const results = new Results();
const categories = { labels: {}, unsafe: new Set() };
const blurSafe = () => recall("blur-safe", "no") === "yes";
const grid = new Grid(results, { open: (result) => details.open(result), labels: () => categories.labels, blurSafe });
const details = new Details({ results, categories, blurSafe, changed, lost: askForKey });
let formats = [];
let runner = null;
let said = 0;
let look = () => {};

const told = {
  result(task, answer) {
    results.add(task, { answer });
    if (answer.degraded && byId("banner").hidden) look();
  },
  failed(task, error) {
    results.add(task, { error });
    if (error.status >= 500 || OWN_FAULTS.has(error.code)) look();
  },
  changed() {
    tools.schedule();
    grid.schedule();
    if (runner?.running && !runner.pause && performance.now() - said > SAY_MS) speak();
  },
  waiting: (sentence) => say(`${sentence} Waiting to try again.`),
  ended(reason) {
    tools.draw();
    grid.draw();
    speak();
    if (reason?.status === 401) askForKey(again);
    else if (reason && reason.name !== "AbortError") {
      const left = `${many(runner.left, "picture is", "pictures are")} not judged yet, and nothing is lost.`;
      notice(`${reason.status ? reason.message : UNREACHABLE} ${left}`);
      look();
    }
  },
};
const tools = new Tools(results, grid, { runner: () => runner, clear, again, retry });

function speak() {
  said = performance.now();
  say(tools.sentence());
}

/** Draws what depends on a result that has changed, or on the setting of the blur. */
function changed() {
  tools.draw();
  grid.mark();
}

function again() {
  notice("");
  runner.start();
}

function retry() {
  take(results.takeBack());
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

function takeFiles(found, lost = []) {
  const { wanted, left } = sift(found, formats);
  const words = [];
  if (left) words.push(`${many(left, "file", "files")} of the folder left out: no picture.`);
  if (lost.length) words.push(`Could not be read: ${lost.slice(0, 5).join(", ")}.`);
  if (!wanted.length && !words.length) words.push("There was no file in it.");
  take(wanted.map((one) => ({ ...one, policy: chosenPolicy() })), words.join(" "));
}

function takeUrls(urls) {
  const error = { message: "This is no http or https address", code: "invalid_url" };
  for (const url of urls) if (!isUrl(url)) results.add({ name: url }, { error });
  take(urls.filter(isUrl).map((url) => ({ url, name: url, policy: chosenPolicy() })));
}

function take(tasks, words = "") {
  if (!runner) return notice(UNREACHABLE, ["Try again", begin]);
  notice(words);
  if (tasks.length) say(`Judging ${many(tasks.length, "picture", "pictures")}`), runner.add(tasks);
  return told.changed();
}

/** The service can be reached again: it may judge by something else now. */
function back() {
  if (runner?.left && !runner.running) notice("The service is back.");
  begin();
}

/** Reads how the service judges, and its limits. */
async function begin() {
  try {
    const config = await ask("/config");
    const { limits } = config;
    const known = Object.entries(config.triple_model_ensemble.classification_categories);
    categories.labels = Object.fromEntries(known.map(([name, one]) => [name, one.label]));
    categories.unsafe = new Set(known.filter(([, one]) => one.safety === "UNSAFE").map(([name]) => name));
    formats = limits.formats;
    nameJudges(config);
    byId("files").accept = ["image/*", ...formats.map((ending) => `.${ending}`)].join(",");
    byId("limits").textContent = `Up to ${config.max_image_size_mb} MB each: ${formats.join(", ")}.`;
    runner ??= new Runner({
      files: limits.streaming_files, urls: limits.urls,
      bytes: Math.min(limits.streaming_size_mb, config.max_total_request_size_mb) * 2 ** 20,
      imageBytes: config.max_image_size_mb * 2 ** 20,
    }, told);
    if (!runner.left) notice("");
  } catch (error) {
    if (error.status === 401) return askForKey(begin);
    notice(error.status ? error.message : UNREACHABLE, ["Try again", begin]);
  }
}

function wireBlur() {
  byId("blur").checked = blurSafe();
  byId("blur").addEventListener("change", ({ target }) => {
    remember("blur-safe", target.checked ? "yes" : "no");
    for (const result of results.all) result.revealed = false;
    grid.mark();
  });
}

themes();
wireKey();
sections({ statistics, health, configuration }, { lost: askForKey });
wireIntake({ takeFiles, takeUrls });
wireBlur();
await begin();
look = watch({ back });
