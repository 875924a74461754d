/** An amount of data: `12.3 MB`. */
export function megabytes (bytes) {
  return `${(bytes / 1e6).toLocaleString('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 })} MB`
}

/** A number as one reads it: `12,034`. */
export function number (value) {
  return value.toLocaleString('en')
}

/** A number of things: `1 user`, `12,034 users`. */
export function quantity (value, one, many) {
  return `${number(value)} ${value === 1 ? one : many}`
}

/** A time span as one says it: `40 seconds`, `3 hours`. */
export function span (seconds) {
  if (seconds < 120) return quantity(Math.round(seconds), 'second', 'seconds')
  if (seconds < 7200) return quantity(Math.round(seconds / 60), 'minute', 'minutes')
  if (seconds < 172_800) return quantity(Math.round(seconds / 3600), 'hour', 'hours')
  return quantity(Math.round(seconds / 86_400), 'day', 'days')
}
