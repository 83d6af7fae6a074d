package state

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// keepUnknown gives fresh, the JSON of record, with those fields of stored
// added that record's type does not know, at any depth: a newer cove's fields
// survive an older cove's write. A higher "schema" stays too.
func keepUnknown(stored, fresh []byte, record any) ([]byte, error) {
	t := structOf(reflect.TypeOf(record))
	if t == nil {
		return fresh, nil // the caller stores what it decoded itself
	}
	was, ok := object(stored)
	if !ok {
		return nil, fmt.Errorf("stored record: %.80q is no JSON object", stored)
	}
	keepSchema := newer(was["schema"], record)
	if !keepSchema && knows(stored, t) {
		return fresh, nil
	}
	fresh, err := merge(stored, fresh, t)
	if err != nil || !keepSchema {
		return fresh, err
	}
	now, _ := object(fresh)
	now["schema"] = was["schema"]
	return json.Marshal(now)
}

// knows tells whether t has a field for all that a record holds.
func knows(record []byte, t reflect.Type) bool {
	d := json.NewDecoder(bytes.NewReader(record))
	d.DisallowUnknownFields()
	return d.Decode(reflect.New(t).Interface()) == nil
}

// newer reports whether the stored schema number is above record's.
func newer(stored json.RawMessage, record any) bool {
	var was int
	if stored == nil || json.Unmarshal(stored, &was) != nil {
		return false
	}
	v := reflect.Indirect(reflect.ValueOf(record)).FieldByName("Schema")
	return v.IsValid() && v.CanInt() && int64(was) > v.Int()
}

// merge adds to fresh what stored has and t does not know.
func merge(stored, fresh json.RawMessage, t reflect.Type) (json.RawMessage, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case structOf(t) != nil:
		return mergeStruct(stored, fresh, t)
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		was, ok := object(stored)
		now, both := object(fresh)
		if !ok || !both {
			return fresh, nil
		}
		for k, v := range was {
			if _, ok := now[k]; ok {
				var err error
				if now[k], err = merge(v, now[k], t.Elem()); err != nil {
					return nil, err
				}
			}
		}
		return json.Marshal(now)
	case t.Kind() == reflect.Slice && structOf(t.Elem()) != nil:
		return mergeSlice(stored, fresh, t.Elem())
	}
	return fresh, nil
}

func mergeStruct(stored, fresh json.RawMessage, t reflect.Type) (json.RawMessage, error) {
	was, ok := object(stored)
	now, both := object(fresh)
	if !ok || !both {
		return fresh, nil
	}
	known := fields(t)
	for name, v := range was {
		f, ok := known[fold(name)]
		if !ok {
			now[name] = v
			continue
		}
		here, there := now[f.name]
		if !there {
			// Left out as empty; what is not known of it may not be. A
			// pointer or a list is left out because it is gone.
			if f.t.Kind() != reflect.Struct || structOf(f.t) == nil {
				continue
			}
			here = json.RawMessage("{}")
		}
		merged, err := merge(v, here, f.t)
		if err != nil {
			return nil, err
		}
		if there || string(merged) != "{}" {
			now[f.name] = merged
		}
	}
	return json.Marshal(now)
}

// mergeSlice finds the stored element of a list again by what t knows of it, or
// else, for one that has changed, by what tells it from the others.
func mergeSlice(stored, fresh json.RawMessage, t reflect.Type) (json.RawMessage, error) {
	var was, now []json.RawMessage
	if json.Unmarshal(stored, &was) != nil || json.Unmarshal(fresh, &now) != nil {
		return fresh, nil
	}
	known := make([]json.RawMessage, len(was)) // what t knows of them
	for i, w := range was {
		v := reflect.New(t)
		if json.Unmarshal(w, v.Interface()) != nil {
			continue
		}
		if k, err := json.Marshal(v.Interface()); err == nil {
			known[i] = k
		}
	}
	merged := make([]bool, len(now))
	for _, same := range []func(a, b json.RawMessage) bool{
		func(a, b json.RawMessage) bool { return bytes.Equal(a, b) },
		func(a, b json.RawMessage) bool { key := keyOf(a, t); return key != "" && key == keyOf(b, t) },
	} {
		for i, n := range now {
			at := slices.IndexFunc(known, func(k json.RawMessage) bool { return k != nil && same(k, n) })
			if merged[i] || at < 0 {
				continue
			}
			var err error
			if now[i], err = merge(was[at], n, t); err != nil {
				return nil, err
			}
			merged[i], known[at] = true, nil
		}
	}
	return json.Marshal(now)
}

// keys are the fields that tell the elements of a list apart: the first one that
// their type has.
var keys = []string{"id", "name", "network", "destination", "containerpath", "path", "subnet", "container_port"}

// keyOf is that field of an element, "" for none.
func keyOf(element json.RawMessage, t reflect.Type) string {
	known := fields(structOf(t))
	for _, key := range keys {
		if f, ok := known[key]; ok {
			o, _ := object(element)
			return string(o[f.name])
		}
	}
	return ""
}

// object takes a JSON object apart; ok is false for anything else.
func object(raw json.RawMessage) (m map[string]json.RawMessage, ok bool) {
	return m, json.Unmarshal(raw, &m) == nil && m != nil
}

// structOf gives the struct that t is or points to when encoding/json writes
// it field by field, else nil.
func structOf(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct || t.Implements(reflect.TypeFor[json.Marshaler]()) ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()) ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return nil
	}
	return t
}

// fold makes names equal that encoding/json takes for the same field.
func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// field is a field as it is written.
type field struct {
	name string
	t    reflect.Type
}

// fields maps the JSON names of t's fields, folded, to the fields.
func fields(t reflect.Type) map[string]field {
	m := make(map[string]field, t.NumField())
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" && f.Tag.Get("json") == "-" {
			continue
		}
		if inner := structOf(f.Type); f.Anonymous && name == "" && inner != nil {
			for k, v := range fields(inner) {
				if _, ok := m[k]; !ok {
					m[k] = v
				}
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		m[fold(name)] = field{name, f.Type}
	}
	return m
}
