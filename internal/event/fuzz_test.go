package event

import (
	"encoding/json"
	"testing"

	"github.com/cove-engine/cove"
)

// FuzzLines reads logs that anything may have written to, cut anywhere: no line
// is lost behind a bad one, and what is read can be written and read again.
func FuzzLines(f *testing.F) {
	whole, err := encode(cove.Event{ID: "a", Name: "n", Status: "start", Type: "container", Attributes: map[string]string{"k": "v"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, 3)
	f.Add([]byte("{\n\n{}\nnull\n[]\n{\"Status\":1}\n"), 1)
	f.Add([]byte(`{"Status":"x","Type":"y","Time":"`), 2)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		read := func(step int) (all []cove.Event) {
			r := reader{each: func(e cove.Event) error { all = append(all, e); return nil }}
			b := append(append([]byte{}, data...), '\n')
			for b = append(b, whole...); len(b) > 0; {
				n := min(step, len(b))
				if err := r.lines(b[:n]); err != nil {
					t.Fatal(err)
				}
				b = b[n:]
			}
			return all
		}
		all, pieces := read(1<<20), read(max(1, cut%64))
		if len(all) == 0 || all[len(all)-1].ID != "a" {
			t.Errorf("the last event is not found: %d", len(all))
		}
		x, _ := json.Marshal(all)
		if y, _ := json.Marshal(pieces); string(x) != string(y) {
			t.Errorf("in one: %s\nin pieces: %s", x, y)
		}
		for _, e := range all {
			raw, err := encode(e)
			if err != nil {
				continue // a year beyond what a time is written with
			}
			if again, ok := decode(raw); !ok || again.Status != e.Status || !again.Time.Equal(e.Time) {
				t.Errorf("%+v became %+v", e, again)
			}
		}
	})
}
