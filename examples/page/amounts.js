/** Formats a number of bytes: `12.3 MB`. */
export function megabytes (bytes) {
  return `${(bytes / 1e6).toLocaleString('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 })} MB`
}

/** Formats a number: `12,034`. */
export function number (value) {
  return value.toLocaleString('en')
}

/** Formats a number with its noun: `1 user`, `12,034 users`. */
export function quantity (value, one, many) {
  return `${number(value)} ${value === 1 ? one : many}`
}

/** Formats a duration: `40 seconds`, `3 hours`. */
export function span (seconds) {
  if (seconds < 120) return quantity(Math.round(seconds), 'second', 'seconds')
  if (seconds < 7200) return quantity(Math.round(seconds / 60), 'minute', 'minutes')
  if (seconds < 172_800) return quantity(Math.round(seconds / 3600), 'hour', 'hours')
  return quantity(Math.round(seconds / 86_400), 'day', 'days')
}
