// Pictures of results, from this device where it has them. Their addresses are given back when not shown.

import { make } from "./dom.js";

const SAFE_ID = /^[0-9A-Za-z_-]+$/;

/** Returns where the picture of a result can be had, or null; `release` ends it. */
export function addressOf(result) {
  if (result.file) return URL.createObjectURL(result.file);
  const id = result.answer?.image_id;
  return id && SAFE_ID.test(id) ? `/image/${id}` : null; // never the stranger's own server
}

export function release(address) {
  if (address?.startsWith("blob:")) URL.revokeObjectURL(address);
}

/** Returns an image, or words in its place where there is none or the browser cannot draw it: then `missing`. */
export function picture(address, kind, missing) {
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
