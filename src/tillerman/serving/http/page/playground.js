// The playground: asks the routes that every client asks. Nothing that a model or a server says becomes HTML:
// text is set as textContent.

const byId = (id) => document.getElementById(id);
const KEY = "tillerman-key", SESSIONS = "tillerman-sessions", MOST_COLUMNS = 3, MOST_SESSIONS = 50;
const LETTERS = "ABC";
const state = { model: "", artefacts: [], columns: [{}], chosen: 0, answers: [], running: null };

function made(tag, text = "", kind = "") {
  const found = document.createElement(tag);
  found.textContent = text;
  found.className = kind;
  return found;
}

// ------------------------------------------------------------------ the server

class Refused extends Error {
  constructor(message, status) { super(message); this.status = status; }
}

async function asked(path, body, signal) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  if (answer.status === 401) byId("key-form").hidden = false;
  throw new Refused(told?.error?.message ?? `the server answers ${answer.status}`, answer.status);
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const said = part.replace(/^data: /, "");
      if (said !== "[DONE]") yield JSON.parse(said);
    }
  }
}

function say(error) {
  byId("problem").textContent = error ? String(error.message ?? error) : "";
}

async function begin() {
  try {
    const models = await (await asked("v1/models")).json();
    const artefacts = await (await asked("v1/artefacts")).json();
    state.model = models.data[0].id;
    state.artefacts = artefacts.data;
    byId("key-form").hidden = true;
    byId("about").textContent = `Model ${state.model}, ${state.artefacts.length} artefacts at ${location.host}`;
    say(null);
    const first = state.artefacts[0];
    if (first && !Object.keys(state.columns[0]).length) state.columns[0] = { [first.name]: suggested(first) };
    drawDoses();
    drawAnswers();
  } catch (error) {
    byId("about").textContent = "";
    say(error);
  }
}

// ------------------------------------------------------------------ doses

const suggested = (one) => rounded(Math.max(-one.max_dose, Math.min(one.max_dose, one.dose)));
const rounded = (dose) => Math.round(dose * 1000) / 1000;
const points = (share) => `${share >= 0 ? "+" : "−"}${Math.abs(100 * share).toFixed(0)}`;

function facts(one) {
  const card = one.card;
  if (!card) return "Nothing was measured.";
  const effect = card.interval
    ? `Effect ${points(card.effect)} pp (${points(card.interval[0])} to ${points(card.interval[1])})`
    : "No effect measured";
  const found = card.effect_found ? "" : ", none shown";
  return `${effect}${found} at dose ${rounded(one.dose)}. ${measured(one)}`;
}

function measured(one) {
  const range = one.card?.dose_range;
  if (!range) return "No range of doses was measured.";
  const [low, high] = range.map(rounded);
  return low === high ? `Measured at ${low} only.` : `Measured from ${low} to ${high}.`;
}

function isMeasured(one, dose) {
  const range = one.card?.dose_range;
  return dose === 0 || Boolean(range && dose >= range[0] - 1e-9 && dose <= range[1] + 1e-9);
}

function drawDoses() {
  const choice = byId("column");
  choice.replaceChildren(...state.columns.map((_, i) => new Option(`column ${LETTERS[i]}`, i, false, i === state.chosen)));
  byId("add").disabled = state.columns.length >= MOST_COLUMNS;
  byId("remove").disabled = state.columns.length < 2;
  byId("artefacts").replaceChildren(...state.artefacts.map(slider));
}

function slider(one, place) {
  const whole = made("div", "", "artefact"), head = made("div", "", "head"), scale = made("div", "", "scale");
  const label = made("label", one.name), shown = made("output"), input = made("input"), told = made("p", facts(one));
  const cap = one.max_dose, range = one.card?.dose_range;
  input.type = "range";
  input.id = label.htmlFor = `dose-${place}`;
  told.id = `facts-${place}`;
  shown.htmlFor = input.id;
  input.min = -cap;
  input.max = cap;
  input.step = "any";
  input.value = state.columns[state.chosen][one.name] ?? 0;
  input.setAttribute("aria-describedby", told.id);
  const at = (dose) => (100 * (Math.max(-cap, Math.min(cap, dose)) + cap)) / (2 * cap);
  if (range) {
    input.style.setProperty("--from", `${at(range[0]) - 0.7}%`); // one dose alone is to be seen, too
    input.style.setProperty("--to", `${at(range[1]) + 0.7}%`);
  }
  const changed = () => {
    const dose = rounded(Number(input.value));
    if (dose === 0) delete state.columns[state.chosen][one.name];
    else state.columns[state.chosen][one.name] = dose;
    const beyond = !isMeasured(one, dose);
    const words = dose === 0 ? "off" : `dose ${dose}${beyond ? ", not measured" : ""}`;
    shown.textContent = words;
    whole.classList.toggle("beyond", beyond);
    input.setAttribute("aria-valuetext", words);
    drawPlans();
  };
  input.addEventListener("input", changed);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.01, ArrowDown: -0.01, ArrowRight: 0.01, ArrowUp: 0.01, PageDown: -0.1, PageUp: 0.1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    input.value = rounded(Number(input.value) + step);
    changed();
  });
  head.append(label, shown);
  scale.append(made("span", `−${cap}`), made("span", "0"), made("span", `${cap}, your cap`));
  whole.append(head, input, scale, told);
  changed();
  return whole;
}

const plan = (column) => Object.entries(column).map(([name, dose]) => `${name}@${dose}`);
const planWords = (column) => plan(column).join(" + ") || "all doses at 0";

function drawPlans() {
  document.querySelectorAll("[data-plan]").forEach((one) => {
    const column = state.columns[one.dataset.plan];
    if (column && !state.answers.length) one.textContent = planWords(column);
  });
}

// ------------------------------------------------------------------ answers

function request(steering, isSteered) {
  const form = byId("form").value, prompt = byId("prompt").value, system = byId("system").value;
  const body = { model: state.model, steering };
  if (form === "text") body.prompt = prompt;
  else body.messages = [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: prompt }];
  const own = { max_tokens: Number(byId("tokens").value), temperature: Number(byId("temperature").value), seed: Number(byId("seed").value) };
  return { path: form === "text" ? "v1/completions" : "v1/chat/completions", asked: body, body: { ...body, ...own }, isSteered };
}

function column(title, words, place, isPlain) {
  const whole = made("article", "", isPlain ? "answer plain" : "answer");
  const head = made("h3", title), told = made("p", words, "plan"), text = made("div", "", "text");
  const token = made("p", "", "token"), receipt = made("p", "", "receipt"), buttons = made("div", "", "line");
  if (!isPlain) told.dataset.plan = place;
  whole.append(head, told, text);
  if (!isPlain) whole.append(token);
  whole.append(receipt, buttons);
  return { whole, text, token, receipt, buttons, title };
}

function drawAnswers() {
  const plain = column("Unsteered", "no artefact", null, true);
  const steered = state.columns.map((one, i) => column(`Column ${LETTERS[i]}`, planWords(one), i, false));
  const all = [plain, ...steered];
  byId("answers").replaceChildren(...all.map((one) => one.whole));
  byId("legend").hidden = true;
  return all;
}

async function answer() {
  say(null);
  state.running?.abort();
  const running = (state.running = new AbortController());
  state.answers = [];
  const shown = drawAnswers();
  const orders = [request([], false), ...state.columns.map((one) => request(plan(one), plan(one).length > 0))];
  state.answers = orders.map((order) => ({ order, text: "", receipt: null, tokens: [] }));
  byId("send").disabled = true;
  byId("stop").disabled = false;
  byId("status").textContent = "Answering";
  const ends = await Promise.allSettled(orders.map((_, i) => one(state.answers[i], shown[i], running.signal)));
  if (state.running !== running) return;
  const failed = ends.filter((end) => end.status === "rejected").map((end) => end.reason);
  byId("send").disabled = false;
  byId("stop").disabled = true;
  byId("status").textContent = running.signal.aborted ? "Stopped" : failed.length ? "Not all were answered" : "Answered";
  const told = failed.filter((error) => error.name !== "AbortError").map((error) => error.message);
  if (told.length) say([...new Set(told)].join("; "));
}

async function one(found, shown, signal) {
  const { order } = found;
  const isText = order.path === "v1/completions";
  const more = order.isSteered ? { logprobs: isText ? 0 : true } : {};
  let ids = [];
  try {
    for await (const event of events(await asked(order.path, { ...order.body, ...more, stream: true }, signal))) {
      if (event.error) throw new Refused(event.error.message, 200);
      for (const choice of event.choices) {
        found.text += isText ? choice.text ?? "" : choice.delta.content ?? "";
        ids.push(...(isText ? choice.logprobs?.token_ids ?? [] : (choice.logprobs?.content ?? []).map((token) => token.token_id)));
      }
      shown.text.textContent = found.text;
      if (event.steering) found.receipt = event.steering;
    }
    if (!fits(found.receipt, order)) throw new Refused("an answer came without its receipt and is not shown", 200);
  } catch (error) {
    found.text = shown.text.textContent = "";
    found.receipt = null;
    shown.receipt.classList.add("missing");
    shown.receipt.textContent = error.name === "AbortError" ? "stopped" : `no answer: ${error.message}`;
    throw error;
  }
  shown.receipt.textContent = receiptWords(found.receipt);
  copyButtons(order, shown);
  if (order.isSteered && ids.length && byId("colour").checked) await coloured(found, ids, shown, signal);
}

function fits(receipt, order) {
  const wanted = order.body.steering.map((part) => part.split("@"));
  if (!receipt || receipt.applied.length !== wanted.length) return false;
  return wanted.every(([name, dose], i) => receipt.applied[i].artefact === name && Math.abs(receipt.applied[i].dose - Number(dose)) < 1e-6);
}

function receiptWords(receipt) {
  const lines = receipt.applied.map((act) => {
    const where = Object.entries(act.at).map(([point, count]) => `${count} tokens at ${point}`).join(", ");
    return `${act.artefact}@${rounded(act.dose)} ${act.operator}, ${act.scope}: ${where}`;
  });
  const what = lines.length ? lines.join("\n") : "nothing was applied";
  return [what, ...receipt.warnings, `plan ${receipt.plan.slice(0, 12)}, ${receipt.engine}`].join("\n");
}

async function coloured(found, ids, shown, signal) {
  let told;
  try {
    told = await (await asked("v1/tillerman/compare", { ...found.order.asked, answer: ids, top_logprobs: 3 }, signal)).json();
  } catch (error) {
    if (error.name !== "AbortError") shown.token.textContent = `Not coloured: ${error.message}`;
    return;
  }
  found.tokens = told.tokens;
  drawTokens(found, shown);
}

const grade = (change) => Math.sign(change) * (Math.abs(change) > 2 ? 3 : Math.abs(change) > 0.7 ? 2 : Math.abs(change) > 0.2 ? 1 : 0);
const likely = (logprob) => `${(100 * Math.exp(logprob)).toPrecision(2)} %`;

// The text in pieces of one token each; of several where a character is made of several. Together they are the text.
function pieces(text, tokens) {
  const found = [];
  let cursor = 0, pending = [];
  for (const token of tokens) {
    const at = token.token.includes("\ufffd") ? -1 : text.indexOf(token.token, cursor);
    if (at < 0 || (!pending.length && at > cursor)) {
      pending.push(token);
      continue;
    }
    if (pending.length) found.push({ text: text.slice(cursor, at), tokens: pending });
    found.push({ text: token.token, tokens: [token] });
    cursor = at + token.token.length;
    pending = [];
  }
  if (pending.length || cursor < text.length) found.push({ text: text.slice(cursor), tokens: pending });
  return found;
}

function drawTokens(found, shown) {
  const parts = pieces(found.text, found.tokens).filter((part) => part.text);
  if (!parts.length) return;
  const changeOf = (part) => part.tokens.reduce((sum, token) => sum + token.change, 0);
  const spans = parts.map((part) => made("span", part.text, `d${grade(changeOf(part))}`));
  let here = -1;
  const look = (place) => {
    spans[here]?.classList.remove("here");
    here = Math.max(0, Math.min(spans.length - 1, place));
    spans[here].classList.add("here");
    shown.token.textContent = parts[here].tokens.map(tokenWords).join("\n");
  };
  spans.forEach((span, i) => {
    span.addEventListener("mouseenter", () => look(i));
    span.addEventListener("click", () => look(i));
  });
  shown.text.replaceChildren(...spans);
  shown.text.tabIndex = 0;
  shown.text.setAttribute("role", "group");
  shown.text.setAttribute("aria-label", `${shown.title}: tokens, to be read with the arrow keys`);
  shown.token.setAttribute("aria-live", "polite");
  shown.text.onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    look(here + step);
  };
  byId("legend").hidden = false;
}

function tokenWords(token) {
  const others = (list) => list.map((other) => `${JSON.stringify(other.token)} ${likely(other.logprob)}`).join(", ");
  return `${JSON.stringify(token.token)}: ${likely(token.logprob)} steered, ${likely(token.against_logprob)} unsteered\n` +
    `steered: ${others(token.top_logprobs)}\nunsteered: ${others(token.against_top_logprobs)}`;
}

// ------------------------------------------------------------------ copy

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function asCurl(order) {
  const key = sessionStorage.getItem(KEY) ? " -H \"Authorization: Bearer $TILLERMAN_KEY\"" : "";
  return `curl ${new URL(order.path, location.href)}${key} -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(order.body))}`;
}

function asPython(order) {
  const { model, steering, messages, prompt, ...rest } = order.body;
  const call = messages ? "chat.completions" : "completions";
  const said = messages ? `messages=${JSON.stringify(messages)}` : `prompt=${JSON.stringify(prompt)}`;
  const key = sessionStorage.getItem(KEY) ? "os.environ[\"TILLERMAN_KEY\"]" : "\"none\"";
  const more = Object.entries(rest).map(([name, value]) => `    ${name}=${value},\n`).join("");
  const first = sessionStorage.getItem(KEY) ? "import os\n\n" : "";
  return `${first}import openai\n\nclient = openai.OpenAI(base_url="${new URL("v1", location.href)}", api_key=${key})\n` +
    `answer = client.${call}.create(\n    model=${JSON.stringify(model)},\n    ${said},\n${more}` +
    `    extra_body={"steering": ${JSON.stringify(steering)}},\n)\n` +
    `print(answer.choices[0].${messages ? "message.content" : "text"})\nprint(answer.model_extra["steering"])\n`;
}

const asToml = (order) => `[presets]\nmine = ${JSON.stringify(order.body.steering.join("+"))}\n`;

function copyButtons(order, shown) {
  const forms = { curl: asCurl, Python: asPython, ...(order.isSteered ? { "serve.toml": asToml } : {}) };
  shown.buttons.replaceChildren(...Object.entries(forms).map(([name, write]) => {
    const button = made("button", name);
    button.type = "button";
    button.setAttribute("aria-label", `Copy ${shown.title} as ${name}`);
    button.addEventListener("click", () => copy(write(order)));
    return button;
  }));
}

async function copy(text) {
  byId("copied").textContent = text;
  byId("copy-panel").hidden = false;
  try {
    await navigator.clipboard.writeText(text);
    byId("status").textContent = "Copied";
  } catch {
    byId("status").textContent = "The browser does not let this page copy; the text is below";
  }
}

// ------------------------------------------------------------------ sessions

const FIELDS = ["prompt", "system", "form", "tokens", "temperature", "seed"];

function sessions() {
  try {
    return JSON.parse(localStorage.getItem(SESSIONS) ?? "[]").filter(isSession);
  } catch {
    return [];
  }
}

function isSession(one) {
  const isDoses = (doses) => doses && typeof doses === "object" && Object.values(doses).every((dose) => Number.isFinite(dose));
  return typeof one?.name === "string" && one.fields && FIELDS.every((name) => typeof one.fields[name] === "string") &&
    Array.isArray(one.columns) && one.columns.length > 0 && one.columns.length <= MOST_COLUMNS && one.columns.every(isDoses);
}

function keep(list) {
  localStorage.setItem(SESSIONS, JSON.stringify(list.slice(-MOST_SESSIONS)));
  drawSessions();
}

function drawSessions() {
  const list = sessions();
  byId("sessions").replaceChildren(...list.map((one, i) => new Option(one.name, i, false, i === list.length - 1)));
  for (const id of ["sessions", "open", "delete", "export"]) byId(id).disabled = list.length === 0;
}

function shownNow() {
  const fields = Object.fromEntries(FIELDS.map((name) => [name, byId(name).value]));
  const answers = state.answers.map(({ order, text, receipt, tokens }) => ({ steering: order.body.steering, text, receipt, tokens }));
  const when = new Date().toISOString().slice(0, 16).replace("T", " ");
  return { name: `${when} ${fields.prompt.slice(0, 40)}`, model: state.model, fields, columns: state.columns, answers };
}

function reopen(session) {
  for (const name of FIELDS) byId(name).value = session.fields[name];
  const known = new Set(state.artefacts.map((one) => one.name));
  state.columns = session.columns.map((doses) => Object.fromEntries(Object.entries(doses).filter(([name]) => known.has(name))));
  state.chosen = 0;
  state.answers = [];
  drawDoses();
  const shown = drawAnswers();
  (Array.isArray(session.answers) ? session.answers : []).slice(0, shown.length).forEach((kept, i) => {
    shown[i].text.textContent = String(kept.text ?? "");
    shown[i].receipt.textContent = kept.receipt?.applied ? `of the saved session:\n${receiptWords(kept.receipt)}` : "";
    if (kept.tokens?.length) drawTokens(kept, shown[i]);
  });
  byId("status").textContent = `Opened ${session.name}`;
}

function exported() {
  const link = made("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(sessions(), null, 1)], { type: "application/json" }));
  link.download = "tillerman-sessions.json";
  link.click();
  URL.revokeObjectURL(link.href);
}

async function imported(file) {
  try {
    const list = JSON.parse(await file.text());
    if (!Array.isArray(list) || !list.every(isSession)) throw new Error();
    keep([...sessions(), ...list]);
    say(null);
  } catch {
    say(`${file.name} holds no sessions of this page`);
  }
}

// ------------------------------------------------------------------ wires

byId("ask").addEventListener("submit", (event) => { event.preventDefault(); answer(); });
byId("stop").addEventListener("click", () => state.running?.abort());
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value.trim());
  begin();
});
byId("column").addEventListener("change", (event) => { state.chosen = Number(event.target.value); drawDoses(); });
byId("add").addEventListener("click", () => changeColumns([...state.columns, { ...state.columns[state.chosen] }], state.columns.length));
byId("remove").addEventListener("click", () => changeColumns(state.columns.filter((_, i) => i !== state.chosen), 0));
byId("clear").addEventListener("click", () => { state.columns[state.chosen] = {}; drawDoses(); });
byId("save").addEventListener("click", () => keep([...sessions(), shownNow()]));
byId("open").addEventListener("click", () => reopen(sessions()[Number(byId("sessions").value)]));
byId("delete").addEventListener("click", () => keep(sessions().filter((_, i) => i !== Number(byId("sessions").value))));
byId("export").addEventListener("click", exported);
byId("import").addEventListener("change", (event) => { if (event.target.files[0]) imported(event.target.files[0]); event.target.value = ""; });

function changeColumns(columns, chosen) {
  state.running?.abort();
  state.columns = columns;
  state.chosen = chosen;
  state.answers = [];
  drawDoses();
  drawAnswers();
}

drawSessions();
begin();
