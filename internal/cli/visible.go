package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// visible writes out what could command a terminal, \x1b for an escape: labels,
// commands, comments and file names are chosen by who made the image, or by the
// container. Tabs and line ends stay; what turns text around (bidirectional controls) does not.
func visible(s string) string {
	var b strings.Builder
	for at, r := range s {
		wide := utf8.RuneLen(r)
		if r == utf8.RuneError && !strings.HasPrefix(s[at:], string(r)) {
			r, wide = rune(s[at]), 1 // no UTF-8: terminals of 8 bits obey those of 0x80 to 0x9f
		}
		switch command := unicode.IsControl(r) && r != '\t' && r != '\n' || unicode.Is(unicode.Bidi_Control, r); {
		case !command:
			b.WriteString(s[at : at+wide])
		case r > 0xff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\x%02x`, r)
		}
	}
	return b.String()
}

// oneLine writes out what would begin another line, in a list of one line each.
func oneLine(s string) string { return strings.ReplaceAll(s, "\n", `\n`) }

// shown is what is to be written to out: to a terminal nothing that it would
// obey, to anything else what was asked for, byte by byte.
func shown(out io.Writer, text []byte) []byte {
	if isTerminal(out) {
		return []byte(visible(string(text)))
	}
	return text
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
