package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/cove-engine/cove"
)

// FuzzRecord reads a stored record into each type that is stored and writes it
// again: what the type knows has to be what was written, and what it does not
// know has to stay.
func FuzzRecord(f *testing.F) {
	golden, err := filepath.Glob("testdata/golden/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range golden {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, s := range []string{`{}`, `[]`, `null`, `{"schema":9,"new":{}}`, `{"spec":{"resources":{"x":1}},"mounts":[{"x":1},{"x":2}]}`,
		`{"Name":"a","NAME":"b"}`, `{"name":"a","ſpec":{"image":"b"}}`, `{"spec":null,"run":7}`, `{"labels":{"a":{"b":1}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		rewrite[cove.Container](t, stored)
		rewrite[cove.Volume](t, stored)
		rewrite[cove.Network](t, stored)
	})
}

func rewrite[T any](t *testing.T, stored []byte) {
	var record T
	if json.Unmarshal(stored, &record) != nil {
		return // the engine says so and writes nothing
	}
	fresh, err := json.Marshal(record)
	if err != nil {
		return
	}
	out, err := keepUnknown(stored, fresh, record)
	if err != nil {
		if _, ok := object(stored); ok {
			t.Fatalf("%s: %v", stored, err)
		}
		return
	}
	var again T
	if err := json.Unmarshal(out, &again); err != nil {
		t.Fatalf("%s became %s: %v", stored, out, err)
	}
	back, err := json.Marshal(again)
	if err != nil || !sameButSchema(back, fresh) {
		t.Fatalf("%s: wrote %s, which reads as %s, %v, not %s", stored, out, back, err, fresh)
	}
	was, _ := object(stored)
	now, _ := object(out)
	known := fields(structOf(reflect.TypeFor[T]()))
	for name, v := range was {
		if _, ok := known[fold(name)]; !ok && !sameJSON(now[name], v) {
			t.Fatalf("%s: %q became %s in %s", stored, name, now[name], out)
		}
	}
	// Nothing is added the second time.
	twice, err := keepUnknown(out, fresh, record)
	if err != nil || !sameJSON(twice, out) {
		t.Fatalf("%s became %s and then %s, %v", stored, out, twice, err)
	}
}

// What is not known of a list's element stays with it when what is known changes,
// goes with it, and is not another's.
func TestKeepUnknownInLists(t *testing.T) {
	stored := []byte(`{"attachments":[{"network":"n1","new":1},{"network":"n2","new":2},{"network":"n3","new":3}],` +
		`"mounts":[{"type":"bind","destination":"/a","new":4}],"ports":[{"host_ip":"","container_port":80,"host_port":0,"range":1,"protocol":"tcp","new":5}]}`)
	var c cove.Container
	if err := json.Unmarshal(stored, &c); err != nil {
		t.Fatal(err)
	}
	c.Attachments = append(c.Attachments[1:], cove.NetworkAttachment{Network: "n4"})
	c.Attachments[0].MAC = "02:00:00:00:00:01"
	c.Mounts[0].Source, c.Ports[0].HostPort = "/b", 8080
	fresh, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out, err := keepUnknown(stored, fresh, c)
	if err != nil {
		t.Fatal(err)
	}
	type element struct{ New int }
	var got struct{ Attachments, Mounts, Ports []element }
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(got); text != "{[{2} {3} {0}] [{4}] [{5}]}" {
		t.Errorf("%s in %s", text, out)
	}
}

// sameButSchema leaves the schema's number out, which a newer one keeps.
func sameButSchema(a, b []byte) bool {
	x, _ := object(a)
	y, _ := object(b)
	delete(x, "schema")
	delete(y, "schema")
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return bytes.Equal(p, q)
}

func sameJSON(a, b json.RawMessage) bool {
	var out [2][]byte
	for i, raw := range []json.RawMessage{a, b} {
		var v any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if d.Decode(&v) != nil {
			return false
		}
		out[i], _ = json.Marshal(v)
	}
	return bytes.Equal(out[0], out[1])
}
