package cove

import (
	"errors"
	"fmt"
	"strings"
)

// merge sets variables whose values may name those that are there already:
// $NAME, ${NAME}, ${NAME:-word} and ${NAME:+word}, with a shell's quotes, as
// the instructions of a Containerfile.
func (v *variables) merge(entries []string) error {
	for _, e := range entries {
		key, value, _ := strings.Cut(e, "=")
		w := word{rest: value, env: *v}
		value, err := w.expand("")
		if err != nil {
			return E("", "", Invalid, fmt.Errorf("--env-merge %q: %w", e, err))
		}
		if key == "" {
			continue // as podman
		}
		if err := v.join([]string{key + "=" + value}); err != nil {
			return err
		}
	}
	return nil
}

// word is what is left of a value that is being expanded.
type word struct {
	rest string
	env  variables
}

// next takes one byte off.
func (w *word) next() byte {
	c := w.rest[0]
	w.rest = w.rest[1:]
	return c
}

// expand expands up to one of the bytes in end, which it takes off, or to the
// end of the value when there are none.
func (w *word) expand(end string) (string, error) {
	var out strings.Builder
	for w.rest != "" {
		c := w.next()
		switch {
		case strings.IndexByte(end, c) >= 0:
			return out.String(), nil
		case c == '\'':
			text, rest, closed := strings.Cut(w.rest, "'")
			if !closed {
				return "", errors.New("unexpected end of statement while looking for matching single-quote")
			}
			out.WriteString(text)
			w.rest = rest
		case c == '"':
			if err := w.quoted(&out); err != nil {
				return "", err
			}
		case c == '\\':
			if w.rest != "" {
				out.WriteByte(w.next())
			}
		case c == '$':
			value, err := w.variable()
			if err != nil {
				return "", err
			}
			out.WriteString(value)
		default:
			out.WriteByte(c)
		}
	}
	if end != "" {
		return "", fmt.Errorf("missing %q", end)
	}
	return out.String(), nil
}

// quoted expands what stands between double quotes.
func (w *word) quoted(out *strings.Builder) error {
	for w.rest != "" {
		switch c := w.next(); c {
		case '"':
			return nil
		case '$':
			value, err := w.variable()
			if err != nil {
				return err
			}
			out.WriteString(value)
		case '\\':
			if w.rest != "" && strings.IndexByte(`"$\`, w.rest[0]) >= 0 {
				c = w.next()
			}
			out.WriteByte(c)
		default:
			out.WriteByte(c)
		}
	}
	return errors.New("unexpected end of statement while looking for matching double-quote")
}

// variable expands what follows a dollar sign.
func (w *word) variable() (string, error) {
	if !strings.HasPrefix(w.rest, "{") {
		name := w.name()
		if name == "" {
			return "$", nil
		}
		return w.env.value(name), nil
	}
	w.next()
	name := w.name()
	switch {
	case name == "":
		return "", errors.New("bad substitution: ${ without a name")
	case strings.HasPrefix(w.rest, "}"):
		w.next()
		return w.env.value(name), nil
	case strings.HasPrefix(w.rest, ":-"), strings.HasPrefix(w.rest, ":+"):
		alternative := w.rest[1] == '+'
		w.rest = w.rest[2:]
		other, err := w.expand("}")
		value := w.env.value(name)
		if alternative == (value != "") {
			value = other
		}
		return value, err
	}
	return "", fmt.Errorf("bad substitution of %s: want }, :- or :+ behind the name", name)
}

// name takes a variable's name off.
func (w *word) name() string {
	n := 0
	for n < len(w.rest) {
		c := w.rest[n]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (n == 0 || c < '0' || c > '9') {
			break
		}
		n++
	}
	name := w.rest[:n]
	w.rest = w.rest[n:]
	return name
}
