const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const IMF = /^[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT$/;
const RFC850 = /^[A-Z][a-z]+day, (\d{2})-([A-Z][a-z]{2})-(\d{2}) (\d{2}):(\d{2}):(\d{2}) GMT$/;
const ASCTIME = /^[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]\d) (\d{2}):(\d{2}):(\d{2}) (\d{4})$/;

/** Unix time in seconds of an HTTP date in any of its three forms (RFC 9110 section 5.6.7); undefined where it is none. */
export function parseDate(text: string, nowSeconds: number): number | undefined {
  const imf = IMF.exec(text);
  if (imf) return seconds(Number(imf[3]), imf[2], imf[1], imf[4], imf[5], imf[6]);
  const old = RFC850.exec(text);
  if (old) {
    // Two digits that seem more than 50 years ahead lie in the past.
    const thisYear = new Date(nowSeconds * 1000).getUTCFullYear();
    let year = Math.floor(thisYear / 100) * 100 + Number(old[3]);
    if (year > thisYear + 50) year -= 100;
    return seconds(year, old[2], old[1], old[4], old[5], old[6]);
  }
  const asctime = ASCTIME.exec(text);
  return asctime ? seconds(Number(asctime[6]), asctime[1], asctime[2], asctime[3], asctime[4], asctime[5]) : undefined;
}

/** IMF-fixdate. */
export function formatDate(unixSeconds: number): string {
  return new Date(unixSeconds * 1000).toUTCString();
}

function seconds(year: number, month = "", day = "", hour = "", minute = "", second = ""): number | undefined {
  const index = MONTHS.indexOf(month);
  const time = Date.UTC(year, index, Number(day), Number(hour), Number(minute), Number(second)) / 1000;
  const inRange = index >= 0 && Number(hour) < 24 && Number(minute) < 60 && Number(second) <= 60;
  return inRange && new Date(time * 1000).getUTCDate() === Number(day) ? time : undefined;
}
