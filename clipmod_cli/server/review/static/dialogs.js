// Questions before what is not undone by a key.

const at = (id) => document.getElementById(id);

// Show a dialog; give the value of the button that closed it, or "" for Esc. `keys` press buttons.
function ask(dialog, keys = {}) {
  return new Promise((resolve) => {
    const closing = new AbortController();
    const { signal } = closing;
    const done = (value) => {
      closing.abort();
      dialog.close();
      resolve(value);
    };
    for (const button of dialog.querySelectorAll("button[type=button]")) {
      button.addEventListener("click", () => done(button.value), { signal });
    }
    dialog.querySelector("form")?.addEventListener("submit", (event) => {
      event.preventDefault();
      done("yes");
    }, { signal });
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      done("");
    }, { signal });
    dialog.addEventListener("keydown", (event) => {
      const value = keys[event.key.toLowerCase()];
      if (value && !event.repeat) {
        event.preventDefault();
        done(value);
      }
    }, { signal });
    dialog.showModal();
  });
}

export const isOpen = () => document.querySelector("dialog[open]") !== null;

// `near` is how many near copies there are of it.
export async function confirmMinor(near) {
  at("minor-near").hidden = !near;
  at("minor-near").textContent = near === 1
    ? "So will its near copy, if that is not decided yet."
    : `So will its ${near} near copies, if they are not decided yet.`;
  return (await ask(at("confirm-minor"), { m: "yes" })) === "yes";
}

// After it is withheld: true if it was a mistake.
export const tellMinor = async () => (await ask(at("told-minor"))) === "mistake";

// Ask for the number of decisions to be typed; null if they are not wanted.
export async function confirmMany(count, label) {
  at("many-title").textContent = `${count} at once: ${label}?`;
  at("typed").value = "";
  return (await ask(at("confirm-many"))) === "yes" ? at("typed").value : null;
}
