package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode"
)

// listing is how a list is printed: rows through a row template, with a
// heading above the columns.
type listing struct {
	// columns is the default row: fields between tabs. A leading "table "
	// may stand there.
	columns string
	// headers names a field's column when it is not the field's own name
	// in capitals.
	headers map[string]string
	// format is --format; noHeading is --noheading.
	format    string
	noHeading bool
}

// field finds the fields of a row template with their arguments, if any.
const field = `\.([A-Za-z][A-Za-z0-9]*)((?:\.[A-Za-z][A-Za-z0-9]*)*)( +"[^"]*")?`

// list prints rows as l says; --format json prints them as they are.
func (a *app) list(l listing, rows []any) error {
	if isJSON(l.format) {
		return a.printJSON(orEmpty(rows))
	}
	return l.print(a.Out, rows)
}

// print writes rows to out.
func (t listing) print(out io.Writer, rows []any) error {
	columns := strings.TrimPrefix(t.columns, "table ")
	text, heading, table := columns, !t.noHeading, true
	if t.format != "" {
		f := unescape(t.format)
		rest, isTable := strings.CutPrefix(strings.TrimSpace(f), "table")
		if isTable && (rest == "" || unicode.IsSpace(rune(rest[0])) || rest[0] == '{') {
			text = columnsOf(strings.TrimSpace(rest))
			if text == "" {
				text = columns
			}
		} else {
			text, heading, table = f, false, false
		}
	}
	text = strings.ReplaceAll(text, ".Namespaces.", ".")
	buffered := bufio.NewWriter(out) // tabwriter writes cell by cell
	w := tabwriter.NewWriter(buffered, 12, 2, 2, ' ', 0)
	if heading {
		line, err := t.heading(text)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return err
		}
	}
	text = strings.TrimSuffix(text, "\n")
	tmpl, err := parseTemplate(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if strings.Contains(text, "{{range .") || strings.Contains(text, "{{- range .") {
		if err := tmpl.Execute(&b, rows); err != nil {
			return err
		}
		rows = nil
	}
	for _, r := range rows {
		begin := b.Len()
		if err := tmpl.Execute(&b, r); err != nil {
			return err
		}
		if table && !strings.Contains(text, "\n") { // a cell begins no row
			row := oneLine(string(b.Bytes()[begin:]))
			b.Truncate(begin)
			b.WriteString(row)
		}
		b.WriteByte('\n')
	}
	if !table { // a tab in it is the user's own
		_, err := out.Write(shown(out, b.Bytes()))
		return err
	}
	if _, err := w.Write(shown(out, []byte(visible(b.String())))); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return buffered.Flush()
}

// columnsOf puts each field of a table's row into a column: what stands between
// them parts them, be it a tab or spaces.
func columnsOf(row string) string {
	var b strings.Builder
	depth := 0
	for i, r := range row {
		switch {
		case strings.HasPrefix(row[i:], "{{"):
			depth++
		case strings.HasPrefix(row[i:], "}}"):
			depth--
		}
		if r == ' ' && depth == 0 {
			r = '\t'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// heading is the row template with every field's column name in its place.
func (t listing) heading(text string) (string, error) {
	action := regexp.MustCompile(`\{\{-?([^}]*)-?\}\}`)
	name := regexp.MustCompile(field)
	return action.ReplaceAllStringFunc(text, func(a string) string {
		m := name.FindStringSubmatch(a)
		if m == nil {
			return ""
		}
		f := m[1]
		if m[2] != "" {
			f = m[2][strings.LastIndexByte(m[2], '.')+1:]
		}
		if arg := strings.Trim(m[3], ` "`); arg != "" {
			return strings.ToUpper(arg)
		}
		if h, ok := t.headers[f]; ok {
			return strings.ToUpper(h)
		}
		return strings.ToUpper(splitCamel(f))
	}), nil
}

// splitCamel puts a space between the words of a field name; runs of
// capitals stay together.
func splitCamel(s string) string {
	var b strings.Builder
	rs := []rune(s)
	for i, r := range rs {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1])) {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// printJSON writes v indented by five spaces, as podman's inspect does.
func (a *app) printJSON(v any) error { return a.printJSONIndent(v, "     ") }

// printJSONIndent writes v indented by indent.
func (a *app) printJSONIndent(v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := a.Out.Write(shown(a.Out, b.Bytes()))
	return err
}

// rowTemplate makes a printer of single rows, each ended by a newline, for
// output that streams.
func (a *app) rowTemplate(format string) (func(row any) error, error) {
	t, err := parseTemplate(unescape(format))
	if err != nil {
		return nil, err
	}
	return func(row any) error {
		var b bytes.Buffer
		if err := t.Execute(&b, row); err != nil {
			return err
		}
		b.WriteByte('\n')
		_, err := a.Out.Write(shown(a.Out, b.Bytes()))
		return err
	}, nil
}

// inspectAll prints what inspect found, as a JSON list or each through the
// template, and then gives the errors of what it did not find.
func (a *app) inspectAll(format string, found []any, errs []error) error {
	if isJSON(format) || format == "" {
		errs = append(errs, a.printJSON(orEmpty(found)))
		return errors.Join(errs...)
	}
	t, err := parseTemplate(goNames(unescape(format)))
	if err != nil {
		return err
	}
	for _, v := range found {
		var b bytes.Buffer
		if err := executeInspect(&b, t, v); err != nil {
			errs = append(errs, err)
			continue
		}
		if !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
			b.WriteByte('\n')
		}
		if _, err := a.Out.Write(shown(a.Out, b.Bytes())); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// goNames puts the structs' names into a template where they differ from the
// JSON's, which templates written for docker use.
func goNames(template string) string {
	template = regexp.MustCompile(`\.Id\b`).ReplaceAllString(template, ".ID")
	return regexp.MustCompile(`\.HostIp\b`).ReplaceAllString(template, ".HostIP")
}

// executeInspect executes t on v and, where v has no such field, on v's JSON:
// templates written for docker use the JSON's names (.Id, .HostIp).
func executeInspect(b *bytes.Buffer, t *template.Template, v any) error {
	err := t.Execute(b, v)
	if err == nil {
		return nil
	}
	b.Reset()
	data, jerr := json.Marshal(v)
	if jerr != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var m any
	if d.Decode(&m) != nil {
		return err
	}
	bothNames(m)
	if t.Option("missingkey=error").Execute(b, m) != nil {
		return err
	}
	return nil
}

// bothNames adds to decoded JSON the names that podman's structs have where
// they differ from the JSON's, so that one template may use both.
func bothNames(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			bothNames(e)
		}
	case map[string]any:
		for _, e := range v {
			bothNames(e)
		}
		for _, n := range [...][2]string{{"Id", "ID"}, {"HostIp", "HostIP"}} {
			if e, ok := v[n[0]]; ok {
				v[n[1]] = e
			}
		}
	}
}
