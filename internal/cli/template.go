package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
)

// templateFuncs are the functions of --format templates, podman's and
// docker's.
func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"join":     func(list any, sep string) string { return strings.Join(stringsOf(list), sep) },
		"json":     toJSON,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"title":    title,
		"split":    strings.Split,
		"pad":      pad,
		"truncate": truncate,
		"println":  fmt.Sprintln,
	}
}

// toJSON is v on one line without HTML escapes.
func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSpace(b.String()), err
}

// stringsOf makes a list printable item by item.
func stringsOf(list any) []string {
	switch l := list.(type) {
	case []string:
		return l
	case []any:
		out := make([]string, len(l))
		for i, v := range l {
			out[i] = fmt.Sprint(v)
		}
		return out
	}
	return []string{fmt.Sprint(list)}
}

// title makes the first letter of each word large.
func title(s string) string {
	begin := true
	return strings.Map(func(r rune) rune {
		if begin && unicode.IsLetter(r) {
			r = unicode.ToTitle(r)
		}
		begin = unicode.IsSpace(r)
		return r
	}, s)
}

// pad puts spaces around a text that is not empty.
func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
}

// truncate keeps the first n runes.
func truncate(s string, n int) string {
	if n < 0 || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n])
}

// unescape turns \t and \n as typed in a shell into the characters. Within
// actions the template does that with the strings that are in them.
func unescape(format string) string {
	characters := strings.NewReplacer(`\t`, "\t", `\n`, "\n")
	var b strings.Builder
	for format != "" {
		text, rest, action := strings.Cut(format, "{{")
		b.WriteString(characters.Replace(text))
		if !action {
			break
		}
		inner, after, closed := strings.Cut(rest, "}}")
		b.WriteString("{{" + inner)
		if closed {
			b.WriteString("}}")
		}
		format = after
	}
	return b.String()
}

// isJSON reports whether --format asks for JSON.
func isJSON(format string) bool { return strings.TrimSpace(format) == "json" }

// parseTemplate parses the text of a --format flag.
func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("format").Funcs(templateFuncs()).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("invalid --format: %w", err)
	}
	return t, nil
}
