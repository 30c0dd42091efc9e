// The ways in: choosing, dropping, pasting, and addresses. What comes in goes to `takeFiles` and `takeUrls`.

import { byId } from "./dom.js";
import { droppedIn, filesOf, isUrl, pastedIn, urlsIn } from "./intake.js";

export function wireIntake({ takeFiles, takeUrls }) {
  for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", ({ target }) => {
      takeFiles(filesOf(target));
      target.value = "";
    });
  }
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData?.files.length) takeFiles(pastedIn(clipboardData));
  });
  wireAddresses(takeUrls);
  wireDrops(takeFiles);
}

function wireAddresses(takeUrls) {
  byId("show-urls").addEventListener("click", () => openAddresses(byId("by-url").classList.contains("closed")));
  byId("by-url").addEventListener("submit", (event) => {
    event.preventDefault();
    const urls = urlsIn(byId("urls").value);
    if (!urls.length) return;
    byId("urls").value = "";
    takeUrls(urls);
    openAddresses(false);
    byId("choose").focus(); // the form goes away when there are results
  });
}

/** Shows or hides the form for addresses where there are results; without any it is always there. */
function openAddresses(open) {
  byId("by-url").classList.toggle("closed", !open);
  byId("show-urls").setAttribute("aria-expanded", open);
  if (open) byId("urls").focus();
}

function wireDrops(takeFiles) {
  const mark = (over) => document.body.classList.toggle("dropping", over);
  document.addEventListener("dragover", (event) => (event.preventDefault(), mark(true)));
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && mark(false));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(false);
    if (location.hash.length > 1) location.hash = "#analyse";
    const link = event.dataTransfer.getData("text/uri-list");
    const { found, lost } = await droppedIn(event.dataTransfer);
    if (!found.length && !lost.length && isUrl(link)) {
      byId("urls").value += `${link}\n`;
      openAddresses(true);
    } else takeFiles(found, lost);
  });
}
