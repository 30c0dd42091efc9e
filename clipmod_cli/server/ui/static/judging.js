// What judges, in a quiet line: policy, threshold, models, how much of a picture they are shown.

import { byId, make } from "./dom.js";
import { percent } from "./words.js";

const COVERAGE = { full: "all of each picture", centre: "the middle of each picture" };
let own = "";
let chosen = "";

/** Returns the policy that the next pictures are to be judged by; empty for the service's own. */
export const chosenPolicy = () => (chosen === own ? "" : chosen);

/** Names what judges, by `/config`; where the operator allows several policies, they can be chosen. */
export function nameJudges(config) {
  own = config.policy;
  if (!config.allowed_policies.includes(chosen)) chosen = own;
  draw(config);
}

function draw(config) {
  const { effective_threshold: threshold, triple_model_ensemble: set, coverage, allowed_policies: policies } = config;
  const parts = [
    ["NSFW from", chosen === own ? percent(threshold) : "the policy's threshold"],
    ["Models", set.models.map((one) => one.name).join(", ")],
    ["Looks at", COVERAGE[coverage] ?? coverage],
    ["clipmod", byId("judging").dataset.version],
  ];
  const told = parts.map(([name, value]) => make("span", {}, `${name} `, make("strong", {}, value)));
  const policy = policies.length > 1 ? choice(config) : make("span", {}, "Policy ", make("strong", {}, own));
  byId("judging").replaceChildren(...[policy, ...told].flatMap((one) => [one, " "]));
}

function choice(config) {
  const options = config.allowed_policies.map((name) => make("option", { value: name, selected: name === chosen }, name));
  const select = make("select", { id: "policy" }, ...options);
  select.addEventListener("change", () => {
    chosen = select.value;
    draw(config);
    byId("policy").focus();
  });
  return make("label", {}, "Policy ", select);
}
