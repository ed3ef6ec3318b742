// What the server is asked, and its refusals.

const KEY = "atrous-api-key";

/** The server did not do what it was asked; `status` is 0 if it did not answer at all. */
export class Refusal extends Error {
  constructor(status, message, wait = 0) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

/** Keep the API key until the tab is closed. */
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** The models, the default one first. */
export async function models() {
  return (await ask("v1/models", {}, (answer) => answer.json())).models;
}

/** A picture to begin with. */
export function sample() {
  return ask("sample.jpg", {}, (answer) => answer.blob());
}

/** Segment a picture: its runs, classes and seconds, and the milliseconds of the round trip. */
export async function segment(blob, model, signal) {
  const began = performance.now();
  const document = await post(blob, { model, output: "json" }, signal, (answer) => answer.json());
  return { ...document, roundTrip: performance.now() - began };
}

/** A picture that the server makes: its mask, or an overlay. */
export function render(blob, query) {
  return post(blob, query, undefined, (answer) => answer.blob());
}

function post(blob, query, signal, read) {
  const path = `v1/segment?${new URLSearchParams(query)}`;
  return ask(path, { method: "POST", body: blob, signal }, read);
}

async function ask(path, options, read) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { "X-API-Key": key } : {};
  try {
    const answer = await fetch(path, { ...options, headers });
    if (answer.ok) return await read(answer);
    if (answer.status === 401) {
      const what = key ? "does not accept this API key" : "asks for an API key";
      throw new Refusal(401, `this server ${what}`);
    }
    const { error } = await answer.json().catch(() => ({}));
    const wait = Number(answer.headers.get("Retry-After"));
    throw new Refusal(answer.status, error ?? `the server said ${answer.status}`, wait);
  } catch (error) {
    if (error instanceof Refusal || error.name === "AbortError") throw error;
    throw new Refusal(0, "the server does not answer; is it still running?");
  }
}
