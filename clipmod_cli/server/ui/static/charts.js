// Small charts, drawn here: shares of a whole, and a line over time.

import { draw, make } from "./dom.js";
import { count, percent } from "./words.js";

const WIDTH = 600;
const HEIGHT = 120;

/** Returns one bar in parts, and a legend that says all of it in words. `parts` are [name, class, number]. */
export function stacked(parts) {
  const sum = parts.reduce((total, [, , number]) => total + number, 0);
  const chart = draw("svg", { viewBox: `0 0 ${WIDTH} 28`, preserveAspectRatio: "none", class: "stacked", "aria-hidden": "true" });
  let x = 0;
  for (const [, kind, number] of parts) {
    const width = sum ? (number / sum) * WIDTH : 0;
    chart.append(draw("rect", { x, y: 0, width, height: 28, class: `part ${kind}` }));
    x += width;
  }
  const legend = parts.map(([name, kind, number]) =>
    make("li", {}, make("i", { className: `dot ${kind}` }), `${name}: `, make("strong", {}, count(number)),
      sum ? ` (${percent(number / sum)})` : ""));
  return make("div", {}, chart, make("ul", { className: "legend" }, ...legend));
}

/** Returns a line of numbers, the newest at the right, and its meaning in words. */
export function line(numbers, said) {
  const most = Math.max(1, ...numbers);
  const step = WIDTH / Math.max(1, numbers.length - 1);
  const points = numbers.map((number, i) => [i * step, HEIGHT - 4 - (number / most) * (HEIGHT - 12)]);
  const path = points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  return draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "line", role: "img", "aria-label": said },
    draw("path", { d: `${path}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`, class: "area" }),
    draw("path", { d: path, class: "stroke" }));
}
