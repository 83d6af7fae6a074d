package journalctl

import (
	"errors"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
)

// read decodes text, each entry as "NAME=value …" of the fields a, b and c.
func read(text string) (entries []string, err error) {
	err = decode(strings.NewReader(text), func(e Entry) error {
		var fields []string
		for _, name := range []string{"a", "b", "c"} {
			if v, ok := e[name]; ok {
				fields = append(fields, name+"="+string(v))
			}
		}
		entries = append(entries, strings.Join(fields, " "))
		return nil
	})
	return entries, err
}

func TestDecode(t *testing.T) {
	for text, want := range map[string][]string{
		"":                 nil,
		"\n\n":             nil,
		"a=1\nb=x=y\n\n":   {"a=1 b=x=y"},
		"a=\n\nb=2\n\n":    {"a=", "b=2"},
		"a=1\n\nb=unended": {"a=1"},
		"a\n\x03\x00\x00\x00\x00\x00\x00\x00x\ny\nb=2\n\n": {"a=x\ny b=2"},
		"a=1\n\nb\n\xff\x00":                           {"a=1"},
		"a=1\n\nb\n\x05\x00\x00\x00\x00\x00\x00\x00xy": {"a=1"},
		"c=" + strings.Repeat("z", 200<<10) + "\n\n":   {"c=" + strings.Repeat("z", 200<<10)},
	} {
		got, err := read(text)
		if err != nil || strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%.40q: %v %.60q", text, err, got)
		}
	}
	for _, text := range []string{
		"a\n\xff\xff\xff\xff\xff\xff\xff\x7f",
		"a\n\x01\x00\x00\x00\x00\x00\x00\x00xyz\n\n",
	} {
		if _, err := read(text); !cove.Is(err, cove.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	enough := errors.New("enough")
	if err := decode(strings.NewReader("a=1\n\na=2\n\n"), func(Entry) error { return enough }); err != enough {
		t.Errorf("each's error: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("a=1\nb\n\x03\x00\x00\x00\x00\x00\x00\x00x\ny\n\n")
	f.Add("\x00\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := read(text)
		if err != nil && !cove.Is(err, cove.Invalid) {
			t.Error(err)
		}
		size := 0
		for _, e := range entries {
			size += len(e)
		}
		if size > 3*len(text)+8 {
			t.Errorf("%d bytes of %d", size, len(text))
		}
	})
}
