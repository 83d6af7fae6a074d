package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// writeYAML writes v, which is anything that marshals to JSON, as block
// YAML with sorted keys, laid out as podman's info: two columns per level,
// lists at the level of their key.
func writeYAML(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // an int64 must not pass through a float
	var tree any
	if err := d.Decode(&tree); err != nil {
		return err
	}
	y := yamlWriter{other: regexp.MustCompile(yamlOther), plain: regexp.MustCompile(yamlPlain)}
	y.node(tree, "", "")
	_, err = io.WriteString(w, y.String())
	return err
}

// yamlWriter is the text so far and what it takes to see which strings need
// quotes.
type yamlWriter struct {
	strings.Builder
	other, plain *regexp.Regexp
}

// node writes a map or list whose lines begin with indent (the first one with
// first), or a scalar.
func (b *yamlWriter) node(v any, first, indent string) {
	switch v := v.(type) {
	case map[string]any:
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i == 0 {
				b.WriteString(first)
			} else {
				b.WriteString(indent)
			}
			b.WriteString(b.text(k, indent) + ":")
			b.value(v[k], indent)
		}
	case []any:
		for _, e := range v {
			b.WriteString(indent + "-")
			if m, ok := e.(map[string]any); ok && len(m) > 0 {
				b.WriteString(" ")
				b.node(m, "", indent+"  ")
				continue
			}
			b.value(e, indent)
		}
	default:
		b.WriteString(b.scalar(v, indent) + "\n")
	}
}

// value writes what stands after "key:" or "-".
func (b *yamlWriter) value(v any, indent string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteString("\n")
		b.node(v, indent+"  ", indent+"  ")
	case []any:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return
		}
		b.WriteString("\n")
		b.node(v, indent, indent)
	default:
		b.WriteString(" " + b.scalar(v, indent) + "\n")
	}
}

func (b *yamlWriter) scalar(v any, indent string) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		if v {
			return "true"
		}
		return "false"
	case json.Number:
		return v.String()
	case string:
		return b.text(v, indent)
	}
	return ""
}

// text gives s plain where a reader would take it for the same
// string, else quoted; several lines become a literal block.
func (b *yamlWriter) text(s, indent string) string {
	if strings.Contains(s, "\n") && printable(strings.ReplaceAll(s, "\n", "")) && !strings.HasPrefix(s, " ") && !strings.HasPrefix(s, "\n") {
		head := "|-"
		switch {
		case strings.HasSuffix(s, "\n\n"):
			head = "|+"
		case strings.HasSuffix(s, "\n"):
			head = "|"
		}
		lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
		for i, l := range lines {
			if l != "" {
				lines[i] = indent + "  " + l
			}
		}
		return head + "\n" + strings.Join(lines, "\n")
	}
	switch {
	case !printable(s) || s == "" || b.other.MatchString(s):
		quoted, _ := json.Marshal(s) // JSON's strings are YAML's
		return string(quoted)
	case b.plain.MatchString(s) && !strings.Contains(s, ": ") && !strings.Contains(s, " #") && !strings.HasSuffix(s, ":") && !strings.HasSuffix(s, " "):
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' || r == '\ufeff' })
}

const (
	// yamlOther matches what a plain scalar would be read as: a null, a
	// boolean of YAML 1.1, a number or a date.
	yamlOther = `(?i)^(~|null|true|false|yes|no|on|off|y|n|<<|=|[-+]?(\.inf|\.nan|[0-9][0-9_]*(\.[0-9_]*)?(e[-+]?[0-9]+)?|\.[0-9]+(e[-+]?[0-9]+)?|0x[0-9a-f_]+|0o?[0-7_]+|0b[01_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?)|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*)$`

	// yamlPlain matches strings whose first letter makes them nothing but
	// a plain scalar.
	yamlPlain = "^[^-\\s?:,\\[\\]{}#&*!|>'\"%@`][^\\t]*$|^-[^\\s]"
)
