// Values, ranges and distributions, as the command line takes them, and as JSON that the API takes. JSON is made as text:
// a 64-bit integer does not survive being a number of this language.

const INT = /^[+-]?\d+$/;
const FLOAT = /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf|nan)$/i;

/** What is wrong with what somebody typed. */
export class BadInput extends Error {}

/** A literal's type, as a column has it. */
export function typeOf(text) {
  const value = text.trim();
  if (INT.test(value)) return 'int';
  if (FLOAT.test(value)) return 'float';
  if (value === 'true' || value === 'false') return 'boolean';
  return /^".*"$/s.test(value) ? 'string' : null;
}

function floatJson(text) {
  const value = text.trim().toLowerCase();
  if (!FLOAT.test(value)) throw new BadInput(`${text.trim() || 'nothing'} is no number`);
  if (value.endsWith('nan')) return '"NaN"';
  if (value.endsWith('inf')) return value.startsWith('-') ? '"-inf"' : '"inf"';
  const digits = value.replace(/^\+/, '').replace(/^(-?)\./, '$10.').replace(/\.(?=e|$)/, '.0');
  return digits.replace(/^(-?)0+(?=\d)/, '$1');
}

function intJson(text) {
  const value = text.trim();
  if (!INT.test(value)) throw new BadInput(`${value || 'nothing'} is no integer`);
  // JSON's -0 is no integer.
  return value.replace(/^\+/, '').replace(/^(-?)0+(?=\d)/, '$1').replace(/^-0$/, '0');
}

/** A value with its type: `{"int":3}`. */
export function scalarJson(text) {
  const value = text.trim();
  switch (typeOf(value)) {
    case 'int': return `{"int":${intJson(value)}}`;
    case 'float': return `{"float":${floatJson(value)}}`;
    case 'boolean': return `{"boolean":${value}}`;
    case 'string':
      try {
        return `{"string":${JSON.stringify(JSON.parse(value))}}`;
      } catch {
        throw new BadInput(`${value} is no text in quotes`);
      }
    default: throw new BadInput(value ? `${value} is no value: 3, 2.5, true or "text"` : 'a value is missing');
  }
}

const float = (text) => `{"float":${floatJson(text)}}`;

/** The values of an axis: `0:10`, `0:1:0.1`, `0:1/50` or `1, 2, 5`. */
export function axis(text) {
  const value = text.trim();
  const even = /^([^:,/]+):([^:,/]+)\/(\d+)$/.exec(value);
  if (even) {
    return { type: 'float', rows: Number(even[3]), json: `{"linspace":{"start":${float(even[1])},"stop":${float(even[2])},"count":${intJson(even[3])}}}` };
  }
  const parts = value.split(':');
  if (parts.length === 2 || parts.length === 3) {
    const [start, stop, step = '1'] = parts;
    const rows = Math.max(0, Math.ceil((Number(stop) - Number(start)) / Number(step)));
    if (parts.every((part) => INT.test(part.trim()))) {
      return { type: 'int', rows, json: `{"int_range":{"start":${intJson(start)},"stop":${intJson(stop)},"step":${intJson(step)}}}` };
    }
    return { type: 'float', rows, json: `{"float_range":{"start":${float(start)},"stop":${float(stop)},"step":${float(step)}}}` };
  }
  const values = value.split(',').map((part) => part.trim());
  if (value === '' || parts.length > 3) throw new BadInput(`${value || 'nothing'} is no range: 0:10, 0:1:0.1, -3:3/200 or 1,2,5`);
  const json = values.map(scalarJson);
  return { type: typeOf(values[0]), rows: values.length, json: `{"list":[${json.join(',')}]}` };
}

/** A distribution: `uniform(0, 1)`. */
export function distribution(text) {
  const call = /^\s*([a-z]+)\s*\((.*)\)\s*$/s.exec(text);
  const name = call?.[1];
  const parts = call ? call[2].split(',') : [];
  const wanted = { uniform: 2, normal: 2, exponential: 1, bernoulli: 1, integer: 2 }[name];
  if (wanted !== undefined && parts.length !== wanted) throw new BadInput(`${name} takes ${wanted} numbers`);
  switch (name) {
    case 'uniform':
    case 'normal': return { type: 'float', json: `{"${name}":[${parts.map(floatJson).join(',')}]}` };
    case 'exponential': return { type: 'float', json: `{"exponential":${floatJson(parts[0])}}` };
    case 'bernoulli': return { type: 'boolean', json: `{"bernoulli":${floatJson(parts[0])}}` };
    case 'integer': return { type: 'int', json: `{"integer":[${parts.map(intJson).join(',')}]}` };
    case 'choice': return { type: typeOf(parts[0]), json: `{"choice":[${parts.map(scalarJson).join(',')}]}` };
    default: throw new BadInput('a distribution is uniform(a, b), normal(mean, sd), exponential(rate), bernoulli(p), integer(lo, hi) or choice(a, b, ..)');
  }
}

/** A whole number from a field. */
export function whole(text, least, most) {
  const digits = text.replace(/[\s_]/g, '');
  const value = Number(digits);
  if (!/^\d+$/.test(digits) || value < least || value > most) throw new BadInput(`${text.trim() || 'nothing'} is no whole number from ${least} to ${most}`);
  return value;
}
