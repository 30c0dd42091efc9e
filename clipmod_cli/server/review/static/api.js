// Requests to clipmod on this machine. Nothing else is asked for anything.

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "clipmod review does not answer: it has ended, or is on another machine.");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, typeof told.detail === "string" ? told.detail : `error ${answer.status}`);
}

const sent = (body, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

export const get = async (path) => (await ask(path)).json();
export const post = async (path, body = {}) => (await ask(path, sent(body))).json();
export const postForPicture = async (path, body, signal) => (await ask(path, sent(body, signal))).blob();
