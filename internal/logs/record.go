package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// record is one line of a log file. Its text may alias the file's buffer.
type record struct {
	at     time.Time
	stream string
	more   bool // the line goes on in the stream's next record
	text   []byte
}

// decoder reads one line of a log file without its newline.
type decoder func(line []byte) (record, bool)

// decodeK8s reads "TIME STREAM TAGS TEXT"; the first of the tags, which
// colons part, is F for a whole line or P for a part.
func decodeK8s(line []byte) (r record, ok bool) {
	at, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(at) > len("2006-01-02T15:04:05.000000000-07:00") {
		return r, false
	}
	when, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return r, false
	}
	name, rest, ok := bytes.Cut(rest, []byte{' '})
	if r.stream = stream(name); !ok || r.stream == "" {
		return r, false
	}
	tags, text, _ := bytes.Cut(rest, []byte{' '})
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	switch string(tag) {
	case "F":
	case "P":
		r.more = true
	default:
		return r, false
	}
	r.at, r.text = when, text
	return r, true
}

// decodeJSON reads docker's {"log":TEXT,"stream":NAME,"time":TIME}; a text
// without a newline at its end is a part of a line.
func decodeJSON(line []byte) (r record, ok bool) {
	var d struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if json.Unmarshal(line, &d) != nil || d.Time.IsZero() {
		return r, false
	}
	if r.stream = stream([]byte(d.Stream)); r.stream == "" {
		return r, false
	}
	text, whole := bytes.CutSuffix([]byte(d.Log), []byte{'\n'})
	r.at, r.text, r.more = d.Time, text, !whole
	return r, true
}

func stream(name []byte) string {
	switch string(name) {
	case "stdout":
		return "stdout"
	case "stderr":
		return "stderr"
	}
	return ""
}

// records cuts a file's bytes into records, however the bytes arrive.
type records struct {
	decode decoder
	json   bool
	each   func(record) error

	rest []byte  // of a line that is not whole yet
	long *record // the k8s-file line whose text is being passed on in parts
	skip bool    // the line is given up
}

// reset forgets an unfinished line: another file follows.
func (s *records) reset() { s.rest, s.long, s.skip = nil, nil, false }

// write takes the next bytes.
func (s *records) write(b []byte) error {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return s.part(b)
		}
		if err := s.line(b[:i]); err != nil {
			return err
		}
		b = b[i+1:]
	}
	return nil
}

// line ends a line with b.
func (s *records) line(b []byte) error {
	if s.skip {
		s.reset()
		return nil
	}
	if s.long != nil {
		r := *s.long
		r.text = b
		s.reset()
		return s.each(r)
	}
	if len(s.rest) > 0 {
		b = append(s.rest, b...)
	}
	r, ok := s.decode(b)
	s.rest = s.rest[:0]
	if !ok {
		return nil
	}
	return s.each(r)
}

// part keeps b, or passes it on when the line is too long to be kept.
func (s *records) part(b []byte) error {
	switch {
	case s.skip:
		return nil
	case s.long != nil:
		r := *s.long
		r.more, r.text = true, b
		return s.each(r)
	}
	s.rest = append(s.rest, b...)
	if len(s.rest) < MaxLine {
		return nil
	}
	r, ok := s.decode(s.rest)
	if s.skip = s.json || !ok; s.skip {
		s.rest = nil
		return nil
	}
	long := r
	s.long, long.text = &long, nil
	r.more = true
	err := s.each(r)
	s.rest = nil
	return err
}

// joiner makes lines of records.
type joiner struct {
	each     func(Line) error
	out, err Line // parts of a line so far; Partial when there are any
}

func (j *joiner) add(r record) error {
	l := &j.out
	if r.stream == "stderr" {
		l = &j.err
	}
	if !l.Partial && !r.more {
		return j.each(Line{Time: r.at, Stream: r.stream, Text: r.text})
	}
	if !l.Partial {
		*l = Line{Time: r.at, Stream: r.stream, Text: l.Text[:0], Partial: true}
	}
	for len(l.Text)+len(r.text) > MaxLine {
		n := MaxLine - len(l.Text)
		l.Text = append(l.Text, r.text[:n]...)
		r.text = r.text[n:]
		if err := j.each(*l); err != nil {
			return err
		}
		l.Text = l.Text[:0]
	}
	l.Text = append(l.Text, r.text...)
	if r.more {
		return nil
	}
	whole := *l
	whole.Partial, l.Partial = false, false
	err := j.each(whole)
	if cap(l.Text) > 64<<10 {
		l.Text = nil
	} else {
		l.Text = l.Text[:0]
	}
	return err
}

// flush gives the lines that were never ended.
func (j *joiner) flush() (err error) {
	for _, l := range []*Line{&j.out, &j.err} {
		if l.Partial {
			err = errors.Join(err, j.each(*l))
			l.Partial = false
		}
	}
	return err
}

// endsLine reports whether the end of a json-file record shows that its text
// ends in a newline: an escaped newline, then the quote that ends the text.
func endsLine(tail []byte) bool {
	i := bytes.LastIndex(tail, []byte(`\n",`))
	if i < 0 {
		return bytes.HasSuffix(tail, []byte(`\n"}`))
	}
	slashes := 0
	for i-slashes > 0 && tail[i-slashes-1] == '\\' {
		slashes++
	}
	return slashes%2 == 0
}
