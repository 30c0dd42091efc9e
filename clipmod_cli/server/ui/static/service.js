// What the service says of itself: its health, and its configuration.

import { ask } from "./api.js";
import { make, table, terms } from "./dom.js";
import { panel } from "./statistics.js";
import { duration, percent } from "./words.js";

const yes = (flag) => make("span", { className: `badge ${flag ? "safe" : "none"}` }, flag ? "yes" : "no");
const hours = (number) => `${number} ${number === 1 ? "hour" : "hours"}`;

export async function health() {
  const { status, timestamp, models, database, configuration, system } = await ask("/health");
  const well = status === "healthy";
  return [
    make("p", { className: `notice ${well ? "well" : "fault"}` }, make("strong", {}, status),
      ` at ${new Date(timestamp).toLocaleString()}; ${models.judging} judges`),
    panel("Models", table("Models", ["Model", "Loaded", "What it is", "Parts"], Object.entries(models.details).map(
      ([name, one]) => [name, yes(models.status[name]), one.type, partsOf(one)]))),
    panel("Store", terms([
      ["Connected", yes(database.connected)],
      ["Answers", yes(database.ping_success)],
      ["Within", database.connected ? duration(database.response_time_ms) : null],
    ])),
    panel("In force", terms([
      ["Policy", configuration.policy],
      ["Sensitivity", configuration.sensitivity_level],
      ["NSFW from", percent(configuration.effective_threshold)],
      ["Pictures kept", configuration.enable_image_hosting ? `for ${hours(configuration.image_expiry_hours)}` : "no"],
    ])),
    panel("Program", terms([
      ["clipmod", system.clipmod_version], ["API", system.api_version], ["Python", system.python_version],
    ])),
  ];
}

export async function configuration() {
  const config = await ask("/config");
  const set = config.triple_model_ensemble;
  const { limits } = config;
  return [
    panel("Policy", terms([
      ["Name", config.policy],
      ["Sensitivity", config.sensitivity_level],
      ["NSFW from", `${percent(config.effective_threshold)} (${percent(config.nsfw_threshold)} at medium sensitivity)`],
      ["Review where fewer agree than", percent(set.agreement_threshold)],
      ["Shown of a picture", config.coverage],
      ["Others to choose", config.allowed_policies.filter((name) => name !== config.policy).join(", ")],
    ])),
    panel("Limits", terms([
      ["A picture", `${config.max_image_size_mb} MB`],
      ["A stream", `${limits.streaming_files} files, ${limits.streaming_size_mb} MB`],
      ["Several at once", `${limits.multi_files} files, ${limits.multi_size_mb} MB`],
      ["Addresses", `${limits.urls}, ${limits.url_timeout_s} s each`],
      ["A request", `${limits.deadline_s} s`],
      ["Requests at once", limits.requests_at_once],
      ["Formats", limits.formats.join(", ")],
      ["Pictures kept", config.enable_image_hosting ? `for ${hours(config.image_expiry_hours)}` : "no"],
    ])),
    panel("Categories", table("Categories", ["Category", "Decision", "What it is"],
      Object.values(set.classification_categories).map((one) => [one.label, safetyOf(one), one.description]))),
    panel("Models", table("Models", ["Model", "Weight", "What it is"],
      set.models.map((one) => [one.name, percent(one.weight), one.description]))),
  ];
}

const safetyOf = ({ safety }) =>
  make("span", { className: `badge ${safety === "UNSAFE" ? "nsfw" : "safe"}` }, safety === "UNSAFE" ? "NSFW" : "Safe");

function partsOf(one) {
  if (one.model_info) return `${one.model_info.model_name} (${one.model_info.pretrained}) on ${one.model_info.device}`;
  return one.models.map((name) => `${name} ${one.weights[name]}`).join(", ") || "none";
}
