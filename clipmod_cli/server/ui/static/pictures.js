// Pictures of results, from this device where it has them, covered until a person wants to see them.

import { make } from "./dom.js";
import { stateOf } from "./states.js";

const SAFE_ID = /^[0-9A-Za-z_-]+$/;

/** Returns where the picture of a result is, or null; `release` ends it. */
export function addressOf(result) {
  if (result.file) return URL.createObjectURL(result.file);
  const id = result.answer?.image_id;
  return id && SAFE_ID.test(id) ? `/image/${id}` : null; // never the stranger's own server
}

export function release(address) {
  if (address?.startsWith("blob:")) URL.revokeObjectURL(address);
}

/**
 * Returns a box with a result's picture, blurred unless it is Safe (`blurSafe()`: then too) or revealed.
 * Dispatch a "mark" event to it after the setting has changed; `changed` hears of a revealed or hidden one.
 */
export function covered(result, address, { className, blurSafe, changed = () => {} }) {
  const button = make("button", { type: "button", className: "reveal" });
  const box = make("div", { className });
  const mark = () => {
    const there = box.querySelector("img");
    const sensitive = there && (stateOf(result) !== "safe" || blurSafe());
    const hidden = Boolean(sensitive && !result.revealed);
    box.classList.toggle("blurred", hidden);
    button.hidden = !sensitive;
    button.replaceChildren(hidden ? "Reveal" : "Hide again", make("span", { className: "unseen" }, ` ${result.name}`));
  };
  button.addEventListener("click", () => ((result.revealed = !result.revealed), mark(), changed()));
  box.addEventListener("mark", mark);
  box.append(picture(address, result.answer?.format, mark), button);
  mark();
  return box;
}

/** Returns an image, or words in its place where there is none or the browser cannot draw it: then `missing`. */
function picture(address, kind, missing) {
  if (!address) return instead("No preview");
  const image = make("img", { alt: "", decoding: "async", draggable: false });
  image.addEventListener("error", () => {
    image.replaceWith(instead(kind ? `No preview of ${kind}` : "No preview"));
    missing();
  });
  image.src = address;
  return image;
}

const instead = (words) => make("span", { className: "no-picture" }, words);
