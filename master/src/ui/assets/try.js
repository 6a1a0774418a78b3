// The place to try formulas: checks as one types, then evaluates, sweeps or samples.
import { morph } from './morph.js';
import { trouble } from './page.js';
import { BadInput, axis, distribution, scalarJson, typeOf, whole } from './literal.js';

const CHECK_PAUSE_MS = 200;
const PILOT_ROWS = 10_000;
const ROWS_MAX = 1_000_000_000;
const NAME_CHARS_MAX = 60;
const SMALL_PRIORITY = 10;

const $ = (id) => document.getElementById(id);
const form = $('try');
const formula = $('formula');
const mirror = $('mirror');
const verdict = $('verdict');
const inputs = $('inputs');
const answer = $('answer');
const pointsMax = Number(form.dataset.points);

/** What each kind of run asks for of a variable. */
const KINDS = {
  eval: { word: 'Evaluate', first: () => '1.0', hint: '3, 2.5, true or "text"', type: (text) => typeOf(text) },
  sweep: { word: 'Sweep', first: (at) => (at === 0 ? '-3.0:3.0/200' : '1.0, 2.0, 3.0'), hint: '0:10, -3:3/200 or 1,2,5', type: (text) => axis(text).type },
  sample: { word: 'Sample', first: () => 'uniform(0, 1)', hint: 'uniform, normal, integer, choice …', type: (text) => distribution(text).type },
};
const typed = { eval: new Map(), sweep: new Map(), sample: new Map() };
let columns = [];
let checked = null;
let timer = 0;
let latest = 0;
let running = null;

const kind = () => form.querySelector('input[name="kind"]:checked')?.value ?? 'eval';

// --- The formula and what is wrong with it

/** Draws the text under the field, with a mark at a place: line and column from 1, in characters. */
function mark(line, column) {
  const text = formula.value;
  mirror.textContent = `${text}\u200b`;
  if (!line) return;
  const lines = text.split('\n');
  const before = lines.slice(0, line - 1).join('\n').length + (line > 1 ? 1 : 0);
  const inLine = [...(lines[line - 1] ?? '')].slice(0, column - 1).join('').length;
  const at = before + inLine;
  const token = /^(?:[\p{L}\p{N}_.:]+|"[^"]*"?|\S|$)/u.exec(text.slice(at))?.[0] || ' ';
  const marked = document.createElement('mark');
  marked.textContent = token;
  mirror.replaceChildren(text.slice(0, at), marked, `${text.slice(at + token.length)}\u200b`);
}

function wrong(message, line, column) {
  formula.setAttribute('aria-invalid', 'true');
  mark(line, column);
  const said = document.createElement('p');
  said.className = 'wrong';
  said.textContent = (line ? `${line > 1 ? `line ${line}, ` : ''}column ${column}: ` : '') + message;
  verdict.replaceChildren(said);
}

function fine(check) {
  formula.removeAttribute('aria-invalid');
  mark();
  const line = document.createElement('p');
  line.className = 'fine';
  const type = document.createElement('span');
  if (check.type) {
    const tag = document.createElement('span');
    tag.className = 'tag';
    tag.textContent = check.type;
    type.append('gives', tag);
  } else {
    type.append('type depends on the row');
  }
  const cost = document.createElement('span');
  cost.className = 'note';
  cost.textContent = `about ${nanoseconds(check.cost_ns_per_row)} a row on one core`;
  line.append(type, cost);
  verdict.replaceChildren(line);
  if (check.because) {
    const because = document.createElement('p');
    because.className = 'note';
    because.textContent = `evaluated row by row: ${check.because}`;
    verdict.append(because);
  }
}

function nanoseconds(ns) {
  return ns >= 1000 ? `${(ns / 1000).toPrecision(3)}\u202fµs` : `${ns.toPrecision(2)}\u202fns`;
}

function types() {
  const found = {};
  for (const name of columns) {
    try {
      const type = KINDS[kind()].type(typed[kind()].get(name) ?? '');
      if (type) found[name] = type;
    } catch {
      // What is typed so far says nothing yet.
    }
  }
  return found;
}

async function check() {
  const text = formula.value;
  const turn = ++latest;
  checked = null;
  if (text.trim() === '') {
    formula.removeAttribute('aria-invalid');
    mark();
    verdict.innerHTML = '<p class="note">Type a formula, or take an example.</p>';
    $('notes').replaceChildren();
    $('typed').hidden = true;
    return;
  }
  const body = JSON.stringify({ formula: text, types: types() });
  let reply;
  try {
    reply = await fetch('/v1/check', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  } catch {
    return turn === latest && wrong('the master does not answer');
  }
  if (turn !== latest) return;
  if (!reply.ok) return wrong(await trouble(reply));
  const found = await reply.json();
  if (turn !== latest) return;
  checked = found;
  const names = found.columns.map((column) => column.name);
  if (found.valid || names.length > 0) {
    const changed = names.join() !== columns.join();
    columns = names;
    drawInputs();
    // Types of new variables are known only now.
    if (changed && found.valid && names.length > 0) return check();
  }
  if (found.valid) fine(found);
  else wrong(found.error.message, found.error.line, found.error.column);
  $('notes').replaceChildren(...(found.notes ?? []).map((note) => Object.assign(document.createElement('li'), { textContent: note })));
  $('typed').hidden = !found.typed_form;
  $('form').textContent = (found.typed_form ?? []).join('\n');
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(check, CHECK_PAUSE_MS);
}

// --- The variables

function drawInputs() {
  if (!inputs) return;
  const manner = KINDS[kind()];
  const known = typed[kind()];
  const fields = columns.map((name, at) => {
    const id = `var-${kind()}-${name}`;
    const there = $(id);
    if (there) return there.closest('.field');
    if (!known.has(name)) known.set(name, manner.first(at));
    const field = document.createElement('div');
    field.className = 'field';
    const label = document.createElement('label');
    label.htmlFor = id;
    label.className = 'mono';
    label.textContent = name;
    const input = Object.assign(document.createElement('input'), { id, type: 'text', value: known.get(name), spellcheck: false });
    input.dataset.name = name;
    const hint = Object.assign(document.createElement('span'), { id: `${id}-hint`, className: 'hint', textContent: manner.hint });
    input.setAttribute('aria-describedby', hint.id);
    field.append(label, input, hint);
    return field;
  });
  if (fields.length !== inputs.children.length || fields.some((field, at) => field !== inputs.children[at])) {
    inputs.replaceChildren(...fields);
  }
  $('sampling').hidden = kind() !== 'sample';
  $('run').textContent = manner.word;
}

/** Reads every variable; the first that is wrong is named, and gets the focus. */
function read(parse) {
  return columns.map((name) => {
    const input = $(`var-${kind()}-${name}`);
    try {
      const found = parse(input.value);
      input.removeAttribute('aria-invalid');
      return [name, found];
    } catch (error) {
      if (!(error instanceof BadInput)) throw error;
      input.setAttribute('aria-invalid', 'true');
      input.focus();
      throw new BadInput(`${name}: ${error.message}`);
    }
  });
}

// --- Running it

function show(...nodes) {
  $('outcome').hidden = false;
  answer.replaceChildren(...nodes);
  answer.className = nodes.length === 1 && nodes[0].className === 'error' ? '' : 'stack';
}

function said(text, className = 'error') {
  return Object.assign(document.createElement('p'), { className, textContent: text });
}

async function post(path, body) {
  return fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
}

/** Where a problem has a place in this formula, it is marked there too. */
async function refused(reply) {
  let problem = {};
  try {
    problem = await reply.json();
  } catch {
    // A proxy's answer, perhaps.
  }
  if (problem.place?.formula === formula.value) wrong(problem.detail, problem.place.line, problem.place.column);
  return show(said(problem.detail ?? `${reply.status} ${reply.statusText}`));
}

async function evaluate() {
  const variables = read(scalarJson).map(([name, json]) => `${JSON.stringify(name)}:${json}`);
  const began = performance.now();
  const reply = await post('/v1/eval', `{"formula":${JSON.stringify(formula.value)},"variables":{${variables.join(',')}}}`);
  const took = performance.now() - began;
  if (!reply.ok) return refused(reply);
  const text = await reply.text();
  const { type, value } = JSON.parse(text);
  // An integer of 64 bits stands in the text as it is.
  const shown = type === 'int' ? /"value":(-?\d+)/.exec(text)[1] : typeof value === 'string' ? value : type === 'float' && Number.isInteger(value) ? `${value}.0` : JSON.stringify(value);
  const line = said(shown, 'value');
  line.id = 'value';
  const card = Object.assign(document.createElement('div'), { className: 'card' });
  const note = said('', 'note');
  const tag = Object.assign(document.createElement('span'), { className: 'tag', textContent: type });
  note.append(tag, ` answered in ${took < 10 ? took.toFixed(1) : took.toFixed(0)}\u202fms, without a job`);
  card.append(line, note);
  show(card);
}

/** A job's spec. What is small goes before what others have queued: somebody sits and waits. */
function spec(kindJson, rest, small) {
  const name = JSON.stringify([...formula.value.replace(/\s+/g, ' ').trim()].slice(0, NAME_CHARS_MAX).join(''));
  return `{"kind":${kindJson},"name":${name},"queue":{"labels":{"from":"try"},"priority":${small ? SMALL_PRIORITY : 0}},${rest}}`;
}

async function sweep() {
  const axes = read(axis);
  if (axes.length === 0) throw new BadInput('a sweep needs a variable: write x in the formula');
  const rows = axes.reduce((product, [, found]) => product * found.rows, 1);
  if (rows > pointsMax) throw new BadInput(`${rows} points are too many to draw; ${pointsMax} can be, and quipu sweep takes any number`);
  const json = axes.map(([name, found]) => `{"name":${JSON.stringify(name)},"values":${found.json}}`);
  // The last axis is the fastest: the first one typed is drawn along.
  const kindJson = `{"sweep":{"formula":${JSON.stringify(formula.value)},"name":"result","axes":[${json.reverse().join(',')}]}}`;
  await follow(await post('/v1/jobs', spec(kindJson, '"format":"csv","on_error":"null"', true)));
}

async function sample() {
  const draws = read(distribution).map(([name, found]) => `{"name":${JSON.stringify(name)},"distribution":${found.json}}`);
  if (draws.length === 0) throw new BadInput('a sample needs a variable: write x in the formula');
  const rows = whole($('rows').value, 1, ROWS_MAX);
  const seed = whole($('seed').value, 0, Number.MAX_SAFE_INTEGER);
  const bins = whole($('bins').value, 1, 200);
  const job = (count, reductions) => {
    const kindJson = `{"sample":{"formula":${JSON.stringify(formula.value)},"name":"result","rows":${count},"seed":${seed},"draws":[${draws.join(',')}]}}`;
    return spec(kindJson, `"reductions":${JSON.stringify(reductions)}`, count <= PILOT_ROWS);
  };
  if (checked?.type === 'boolean') return follow(await post('/v1/jobs', job(rows, ['count', 'any', 'all'])));
  // Where the values are is seen from the first of them.
  show(said('looking where the values are …', 'note'));
  const pilot = await post('/v1/jobs', job(Math.min(rows, PILOT_ROWS), ['min', 'max', { quantile: 0.005 }, { quantile: 0.995 }]));
  if (!pilot.ok) return refused(pilot);
  const { id } = await pilot.json();
  const reply = await fetch(`/v1/jobs/${id}/results`);
  if (!reply.ok) return refused(reply);
  const { result } = await reply.json();
  fetch(`/v1/jobs/${id}`, { method: 'DELETE' });
  const [lo, hi] = range(result);
  await follow(await post('/v1/jobs', job(rows, ['mean', 'stddev', 'min', 'max', { quantile: 0.05 }, { quantile: 0.5 }, { quantile: 0.95 }, { histogram: { lo, hi, bins } }])));
}

/** From where to where a histogram goes: over all values, unless a few are far away. */
function range(result) {
  const [min, max, low, high] = ['min', 'max', 'quantile(0.005)', 'quantile(0.995)'].map((name) => Number(result[name]));
  if (![min, max].every(Number.isFinite)) throw new BadInput('the values are not all finite numbers');
  const width = high - low;
  const far = width > 0 && max - min > 8 * width;
  const [lo, hi] = far ? [low - width / 4, high + width / 4] : [min, max];
  return lo < hi ? [lo, hi] : [lo - 0.5, hi + 0.5];
}

/** Watches a job to its end, and then shows what came out. */
async function follow(reply) {
  if (!reply.ok) return refused(reply);
  const job = await reply.json();
  const link = Object.assign(document.createElement('a'), { href: `/jobs/${job.id}`, textContent: `Job ${job.id}` });
  const state = document.createElement('span');
  const head = document.createElement('p');
  head.className = 'note';
  head.append(link, ': ', state);
  const bar = Object.assign(document.createElement('progress'), { max: 1000, value: 0 });
  bar.setAttribute('aria-label', `Progress of job ${job.id}`);
  show(head, bar);
  const last = await new Promise((resolve, reject) => {
    const source = new EventSource(`/v1/jobs/${job.id}/events`);
    running = { stop: () => { source.close(); resolve(null); } };
    // A connection that is lost is made again; one that is refused is not.
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) reject(new Error('refused'));
    };
    source.onmessage = ({ data }) => {
      const view = JSON.parse(data);
      state.textContent = view.state;
      bar.value = view.rows_total ? (view.rows_done / view.rows_total) * 1000 : 0;
      if (['succeeded', 'failed', 'cancelled'].includes(view.state)) {
        source.close();
        resolve(view);
      }
    };
  });
  if (!last) return;
  if (last.state !== 'succeeded') return show(head, said(last.error?.message ?? `the job is ${last.state}`));
  const fragment = await fetch(`/ui/jobs/${job.id}/results`);
  const place = document.createElement('div');
  place.className = 'came-out';
  if (fragment.ok) morph(place, await fragment.text());
  else place.append(said(await fragment.text()));
  show(head, place);
}

async function run() {
  if (formula.value.trim() === '') return formula.focus();
  running?.stop();
  running = null;
  answer.setAttribute('aria-busy', 'true');
  $('run').disabled = true;
  try {
    await { eval: evaluate, sweep, sample }[kind()]();
  } catch (error) {
    show(said(error instanceof BadInput ? error.message : 'The master does not answer.'));
  } finally {
    $('run').disabled = false;
    answer.setAttribute('aria-busy', 'false');
  }
}

formula.addEventListener('input', () => {
  mark();
  soon();
});
form.addEventListener('submit', (event) => {
  event.preventDefault();
  if ($('run')) run();
});
form.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && $('run')) {
    event.preventDefault();
    run();
  }
});
form.addEventListener('change', (event) => {
  if (event.target.name !== 'kind') return;
  drawInputs();
  soon();
});
inputs?.addEventListener('input', ({ target }) => {
  typed[kind()].set(target.dataset.name, target.value);
  soon();
});
for (const example of form.querySelectorAll('[data-formula]')) {
  example.addEventListener('click', () => {
    formula.value = example.dataset.formula;
    const choice = form.querySelector(`input[name="kind"][value="${example.dataset.kind}"]`);
    if (choice) choice.checked = true;
    drawInputs();
    check();
    formula.focus();
  });
}

// A formula may come with the address, so that it can be passed on.
const asked = new URLSearchParams(location.search);
if (asked.has('formula')) formula.value = asked.get('formula');
const choice = form.querySelector(`input[name="kind"][value="${CSS.escape(asked.get('kind') ?? '')}"]`);
if (choice) choice.checked = true;
drawInputs();
check();
