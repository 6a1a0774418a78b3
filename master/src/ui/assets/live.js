// Keeps a page up to date: each event has HTML by the id of the place that it belongs to.
import { morph } from './morph.js';
import { localTimes } from './page.js';

const PAUSE_FIRST_MS = 500;
const PAUSE_MAX_MS = 15_000;
const SAMPLES_MAX = 60;

const path = document.body.dataset.live;
const sign = document.getElementById('link');
let source = null;
let pause = PAUSE_FIRST_MS;
let timer = 0;
let ended = false;

function show(state, word) {
  if (!sign || sign.dataset.state === state) return;
  sign.dataset.state = state;
  sign.querySelector('.word').textContent = word;
  sign.title = word;
}

function apply(parts) {
  for (const [id, html] of Object.entries(parts)) {
    const place = document.getElementById(id);
    if (!place) continue;
    morph(place, html);
    localTimes(place);
    const section = place.closest('section');
    if (section?.getAttribute('aria-labelledby') === `${id}-title`) section.hidden = html === '';
  }
  spark();
}

function open() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource(path);
  source.onopen = () => {
    pause = PAUSE_FIRST_MS;
    show('live', 'live');
  };
  source.onmessage = (event) => {
    show('live', 'live');
    apply(JSON.parse(event.data));
    if (document.querySelector('#head .state.succeeded, #head .state.failed, #head .state.cancelled')) end();
  };
  source.onerror = lost;
}

// Our own pauses, since a browser gives up where the answer is an error.
async function lost() {
  if (ended) return;
  source?.close();
  show('reconnecting', 'reconnecting');
  clearTimeout(timer);
  timer = setTimeout(retry, pause * (0.75 + Math.random() / 2));
  pause = Math.min(pause * 2, PAUSE_MAX_MS);
}

async function retry() {
  try {
    // Whoever is not logged in any more is asked to.
    const answer = await fetch('/v1/version', { headers: { accept: 'application/json' } });
    if (answer.status === 401) return location.reload();
  } catch {
    return lost();
  }
  if (!document.hidden) open();
}

function end() {
  ended = true;
  source?.close();
  show('ended', 'ended');
}

// A hidden page needs no news, and browsers have few connections for one host.
document.addEventListener('visibilitychange', () => {
  if (ended) return;
  if (document.hidden) {
    source?.close();
    clearTimeout(timer);
    show('paused', 'paused');
  } else {
    open();
  }
});
addEventListener('pagehide', () => source?.close());

// The rate of the last half minute, as a line.
const samples = [];
function spark() {
  const tile = document.querySelector('[data-spark]');
  const place = tile?.querySelector('.spark');
  if (!place) return;
  samples.push(Number(tile.dataset.spark));
  if (samples.length > SAMPLES_MAX) samples.shift();
  if (samples.length < 2) return;
  const top = Math.max(...samples, 1);
  const step = 200 / (SAMPLES_MAX - 1);
  const first = 200 - (samples.length - 1) * step;
  const points = samples.map((rate, at) => `${(first + at * step).toFixed(1)} ${(27 - (rate / top) * 25).toFixed(1)}`);
  const line = `M${points.join('L')}`;
  place.innerHTML = `<svg viewBox="0 0 200 28" preserveAspectRatio="none" aria-hidden="true"><path class="area" d="${line}L200 28L${first.toFixed(1)} 28Z"/><path d="${line}"/></svg>`;
}

open();
