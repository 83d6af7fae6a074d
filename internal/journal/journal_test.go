package journal

import (
	"bytes"
	"strings"
	"testing"
)

func TestEntry(t *testing.T) {
	var e Entry
	e.Add("MESSAGE", []byte("one line"))
	e.Add("TWO", []byte("a\nb"))
	e.AddString("NONE", "")
	e.AddString("THREE", "\n")
	want := "MESSAGE=one line\nTWO\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\nTHREE\n\x01\x00\x00\x00\x00\x00\x00\x00\n\n"
	if string(e.buf) != want {
		t.Errorf("got  %q\nwant %q", e.buf, want)
	}
	e.Reset()
	if len(e.buf) != 0 {
		t.Errorf("after reset: %q", e.buf)
	}
}

// An event's text must not be able to add fields of its own.
func TestEventCannotForge(t *testing.T) {
	var e Entry
	(&Event{Status: "died", Type: "container", Name: "x\nPODMAN_EVENT=create", Labels: map[string]string{"a": "b\nPODMAN_ID=1"}}).Entry(&e)
	for rest := e.buf; len(rest) > 0; {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		if name, _, ok := bytes.Cut(line, []byte("=")); ok {
			if string(name) == FieldEvent && string(line) != FieldEvent+"=died" || string(name) == FieldID {
				t.Errorf("forged: %q", line)
			}
			rest = after
			continue
		}
		n := int(after[0]) | int(after[1])<<8
		if !strings.Contains(string(after[8:8+n]), "PODMAN_EVENT=create") {
			t.Errorf("unexpected long field %s", line)
		}
		rest = after[8+n+1:]
	}
}
