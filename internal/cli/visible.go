package cli

import (
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// visible writes out what could command a terminal, \x1b for an escape: labels,
// commands, comments and file names are chosen by who made the image, or by the
// container. Tabs and line ends stay.
func visible(s string) string {
	command := func(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\n' }
	if !strings.ContainsFunc(s, command) {
		return s
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	for _, r := range s {
		if command(r) { // all are below U+0100
			b.WriteString(`\x` + string(hex[r>>4]) + string(hex[r&15]))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

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
