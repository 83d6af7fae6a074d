package cli

import (
	"bytes"
	"testing"
)

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"a\tb\nc":                      "a\tb\nc",
		"\x1b[31mred":                  `\x1b[31mred`,
		"bell\a, \x7f":                 `bell\x07, \x7f`,
		"\u009b2J":                     `\x9b2J`,                            // CSI in one character
		"\x9b2J \xe9t\xe9 \xff \ufffd": `\x9b2J` + " \xe9t\xe9 \xff \ufffd", // no UTF-8
		"line\rover":                   `line\x0dover`,
		"abc\u202etxt.exe":             `abc\u202etxt.exe`, // from right to left
		"déjà vu \u200d":               "déjà vu \u200d",
	} {
		if got := visible(in); got != want {
			t.Errorf("visible(%q) = %q, want %q", in, got, want)
		}
	}
}

// A table's cells begin no rows of their own, be they an image's command.
func TestTableOneLine(t *testing.T) {
	rows := []any{struct{ Command, Name string }{"sh\n123 forged", "c"}}
	for format, want := range map[string]string{
		"":                           "COMMAND         NAME\n" + `sh\n123 forged  c` + "\n",
		"table {{.Command}}":         "COMMAND\n" + `sh\n123 forged` + "\n",
		`table {{.Name}}\n{{.Name}}`: "NAME\nNAME\nc\nc\n",
		"{{.Command}}":               "sh\n123 forged\n",
	} {
		var b bytes.Buffer
		if err := (listing{columns: "{{.Command}}\t{{.Name}}", format: format}).print(&b, rows); err != nil || b.String() != want {
			t.Errorf("format %q: %q (%v), want %q", format, b.String(), err, want)
		}
	}
}

// A table's rows command no terminal; a template gives what there is.
func TestTableVisible(t *testing.T) {
	rows := []any{struct{ Command string }{"\x1b]0;x\a"}}
	for format, want := range map[string]string{
		"":                   "COMMAND\n" + `\x1b]0;x\x07` + "\n",
		"table {{.Command}}": "COMMAND\n" + `\x1b]0;x\x07` + "\n",
		"{{.Command}}":       "\x1b]0;x\a\n",
	} {
		var b bytes.Buffer
		if err := (listing{columns: "{{.Command}}", format: format}).print(&b, rows); err != nil || b.String() != want {
			t.Errorf("format %q: %q (%v), want %q", format, b.String(), err, want)
		}
	}
}
