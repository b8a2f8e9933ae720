import { ERRORS } from './errors.ts';

/** docs/reference/errors.md, from the registry. `node base/errors-page.ts > docs/reference/errors.md` writes it. */
export function errorsPage(): string {
  const sections = Object.entries(ERRORS).map(([code, { cause, fix }]) => `## ${code}\n\n${sentence(cause)}\n\n**What to do:** ${sentence(fix)}\n`);
  return `# Errors\n\nEvery failure that Weft reports has a code. Words in braces stand for what was found.\n\n${sections.join('\n')}`;
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

if (import.meta.main) process.stdout.write(errorsPage());
