package coldjson

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
)

// Marshal is [json.Marshal].
func Marshal(v any) ([]byte, error) {
	if v != nil {
		w := writer{}
		if w.value(reflect.ValueOf(v)) {
			return w.data, nil
		}
	}
	return json.Marshal(v)
}

// writer appends to data. Its methods tell whether they could.
type writer struct{ data []byte }

func (w *writer) value(v reflect.Value) bool {
	t := v.Type()
	if t.Kind() == reflect.Pointer && t.PkgPath() == "" {
		if v.IsNil() {
			w.data = append(w.data, "null"...)
			return true
		}
		return w.value(v.Elem())
	}
	f := formOf(t)
	switch f.kind {
	case foreign:
		return false
	case theirs:
		return w.theirs(v.Interface())
	}
	switch t.Kind() {
	case reflect.Struct:
		return w.object(v, f.fields)
	case reflect.Map:
		return w.entries(v)
	case reflect.Slice:
		if v.IsNil() {
			w.data = append(w.data, "null"...)
			return true
		}
		return w.elements(v)
	case reflect.Array:
		return w.elements(v)
	case reflect.String:
		return w.text(v.String())
	case reflect.Bool:
		w.data = strconv.AppendBool(w.data, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		w.data = strconv.AppendInt(w.data, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		w.data = strconv.AppendUint(w.data, v.Uint(), 10)
	default:
		return false
	}
	return true
}

func (w *writer) theirs(v any) bool {
	text, err := json.Marshal(v)
	w.data = append(w.data, text...)
	return err == nil
}

func (w *writer) object(v reflect.Value, fields []field) bool {
	w.data = append(w.data, '{')
	first := true
	for _, f := range fields {
		of := v.Field(f.index)
		if f.omitEmpty && empty(of) || f.omitZero && zero(of) {
			continue
		}
		if !first {
			w.data = append(w.data, ',')
		}
		first = false
		w.data = append(append(append(w.data, '"'), f.name...), `":`...)
		if !w.value(of) {
			return false
		}
	}
	w.data = append(w.data, '}')
	return true
}

func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// zero knows of structs alone that they may have a mind of their own: makeForm.
func zero(v reflect.Value) bool {
	if v.Kind() == reflect.Struct {
		if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
			return z.IsZero()
		}
	}
	return v.IsZero()
}

func (w *writer) entries(v reflect.Value) bool {
	if v.IsNil() {
		w.data = append(w.data, "null"...)
		return true
	}
	entries := make(map[string]reflect.Value, v.Len())
	for key, element := range v.Seq2() {
		entries[key.String()] = element
	}
	w.data = append(w.data, '{')
	for i, key := range slices.Sorted(maps.Keys(entries)) {
		if i > 0 {
			w.data = append(w.data, ',')
		}
		if !w.text(key) {
			return false
		}
		w.data = append(w.data, ':')
		if !w.value(entries[key]) {
			return false
		}
	}
	w.data = append(w.data, '}')
	return true
}

func (w *writer) elements(v reflect.Value) bool {
	w.data = append(w.data, '[')
	for i := range v.Len() {
		if i > 0 {
			w.data = append(w.data, ',')
		}
		if !w.value(v.Index(i)) {
			return false
		}
	}
	w.data = append(w.data, ']')
	return true
}

func (w *writer) text(s string) bool {
	if !plainName(s) {
		return w.theirs(s)
	}
	w.data = append(append(append(w.data, '"'), s...), '"')
	return true
}
