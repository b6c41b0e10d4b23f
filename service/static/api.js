// Asking the service: every request goes to this host, with the key if one was given.

let key = sessionStorage.getItem("key");

export const keyed = () => key !== null;

export function useKey(secret) {
  key = secret;
  sessionStorage.setItem("key", secret);
}

export async function ask(path, { parameters = {}, ...options } = {}) {
  const chosen = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = chosen.length ? `?${new URLSearchParams(chosen)}` : "";
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  let response;
  try {
    response = await fetch(`${path}${query}`, { ...options, headers });
  } catch {
    throw new Error("The service does not answer.");
  }
  if (response.status === 401) document.dispatchEvent(new Event("key-wanted"));
  if (!response.ok) {
    const problem = await response.json().catch(() => null);
    throw Object.assign(new Error(problem?.detail ?? `The service answered ${response.status}.`), { status: response.status, type: problem?.type });
  }
  return response;
}

export const askJson = async (path, options) => (await ask(path, options)).json();

export function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  return { method: "POST", body: data };
}

/** Show an indexed image in an <img>. With a key it must be fetched: an <img> cannot send one. */
export async function showThumbnail(image, id, description) {
  const path = `/v1/images/${id}/thumbnail`;
  image.dataset.id = id;
  image.alt = description;
  image.loading = "lazy";
  if (!keyed()) {
    image.src = path;
    return;
  }
  const bytes = await ask(path).then((response) => response.blob(), () => null);
  if (image.dataset.id !== String(id)) return; // it shows another one by now
  if (bytes === null) return image.removeAttribute("src");
  image.src = URL.createObjectURL(bytes);
  image.onload = () => URL.revokeObjectURL(image.src);
}

/** An indexed image's own bytes, or its thumbnail's where browsers cannot show the format. */
export async function imageFile(id) {
  let response;
  try {
    response = await ask(`/v1/images/${id}/original`);
  } catch {
    response = await ask(`/v1/images/${id}/thumbnail`);
  }
  return new File([await response.blob()], `image ${id}`);
}

/** The objects of a stream of server-sent events. */
export async function* events(path) {
  const reader = (await ask(path)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
  }
}
