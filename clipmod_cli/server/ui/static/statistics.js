// The statistics of the service: totals of the store, and what happened since the page was opened.

import { ask } from "./api.js";
import { line, stacked } from "./charts.js";
import { make } from "./dom.js";
import { shareRows } from "./marks.js";
import { count, duration, many, percent, size } from "./words.js";

const EVERY_MS = 10_000; // as shell.js asks
const MOST = 120; // points of the line: the last twenty minutes
const seen = [];

/** Returns what the section shows. Throws ApiError where there are no statistics. */
export async function statistics() {
  const stats = await ask("/stats");
  note(stats.total_images_processed);
  const speed = stats.performance_metrics;
  return [
    tiles([
      [count(stats.total_images_processed), "pictures judged"],
      [count(stats.total_requests), "requests"],
      [percent(stats.error_rate), "of requests failed"],
      [percent(stats.average_confidence), "mean confidence"],
      [count(speed.max_concurrent_requests), "requests at once, at most"],
      [uptime(stats.uptime_hours), "up"],
    ]),
    panel("Decisions", stacked(decisions(stats))),
    panel("What a picture costs", times(stats.average_processing_time_ms, speed.p95_processing_time_ms,
      speed.p99_processing_time_ms)),
    panel("How long a request takes", times(speed.average_latency_ms, speed.p95_latency_ms, speed.p99_latency_ms)),
    panel("Pictures since this page was opened", ...recent()),
    panel("Requests by who judged", shareRows(stats.models_usage,
      { tell: count, most: Math.max(...Object.values(stats.models_usage)) })),
    panel("Store", make("p", {}, `${many(stats.database_stats.total_predictions_stored, "prediction", "predictions")}, `
      + `${many(stats.database_stats.total_images_hosted, "picture", "pictures")} kept, ${size(stats.database_stats.database_size_mb * 1e6)}`)),
  ];
}

export function panel(title, ...children) {
  return make("section", { className: "panel" }, make("h2", {}, title), ...children);
}

function tiles(pairs) {
  const each = pairs.map(([number, said]) => make("li", {}, make("strong", {}, number), make("span", {}, said)));
  return make("ul", { className: "tiles" }, ...each);
}

const decisions = ({ nsfw_detections: nsfw, safe_detections: safe }) => [["NSFW", "nsfw", nsfw], ["Safe", "safe", safe]];

function times(mean, p95, p99) {
  const rows = { Mean: mean, "95 of 100 within": p95, "99 of 100 within": p99 };
  return shareRows(rows, { tell: duration, most: Math.max(mean, p95, p99) });
}

function note(total) {
  seen.push(total);
  if (seen.length > MOST + 1) seen.shift();
}

function recent() {
  const steps = seen.slice(1).map((total, i) => Math.max(0, total - seen[i]));
  const sum = steps.reduce((total, step) => total + step, 0);
  const said = `${many(sum, "picture", "pictures")} in the last ${duration(steps.length * EVERY_MS)}`;
  if (steps.length < 2) return [make("p", { className: "dim" }, "The line begins in some seconds.")];
  return [line(steps, said), make("p", { className: "dim" }, said)];
}

const uptime = (hours) => (hours < 1 ? `${Math.round(hours * 60)} min` : hours < 48 ? `${hours.toFixed(1)} h` : `${Math.round(hours / 24)} days`);
