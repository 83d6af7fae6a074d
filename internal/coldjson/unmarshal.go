package coldjson

import (
	"encoding/json"
	"reflect"
	"strings"
)

// Unmarshal is [json.Unmarshal]. What v points to should be zero: else
// encoding/json is asked at once, as it is later where this gives up.
func Unmarshal(data []byte, v any) error {
	if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && !p.IsNil() && p.Elem().IsZero() {
		r := reader{data: data}
		if r.value(p.Elem()) && r.space() == 0 && r.at == len(data) {
			return nil
		}
		p.Elem().SetZero()
	}
	return json.Unmarshal(data, v)
}

// reader goes through data. Its methods tell whether they understood.
type reader struct {
	data []byte
	at   int
}

// space passes white space and gives the byte behind it, 0 at the end.
func (r *reader) space() byte {
	for r.at < len(r.data) {
		switch c := r.data[r.at]; c {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return c
		}
	}
	return 0
}

// take passes white space and then c, if it is there.
func (r *reader) take(c byte) bool {
	if r.space() != c || c == 0 {
		return false
	}
	r.at++
	return true
}

// word passes white space and then a word that nothing of its kind goes on.
func (r *reader) word(w string) bool {
	r.space()
	if !strings.HasPrefix(string(r.data[r.at:min(len(r.data), r.at+len(w))]), w) {
		return false
	}
	r.at += len(w)
	return r.at == len(r.data) || !inWord(r.data[r.at])
}

func inWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '+' || c == '-'
}

func (r *reader) value(v reflect.Value) bool {
	t := v.Type()
	f := formOf(t)
	switch f.kind {
	case foreign:
		return false
	case theirs:
		return r.theirs(v)
	}
	if r.space() == 'n' {
		if !r.word("null") {
			return false
		}
		switch t.Kind() {
		case reflect.Pointer, reflect.Map, reflect.Slice:
			v.SetZero()
		}
		return true
	}
	switch t.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(t.Elem()))
		}
		return r.value(v.Elem())
	case reflect.Struct:
		return r.object(v, f.fields)
	case reflect.Map:
		return r.entries(v)
	case reflect.Slice, reflect.Array:
		return r.elements(v)
	case reflect.String:
		return r.text(v)
	case reflect.Bool:
		is := r.space() == 't'
		if !is && !r.word("false") || is && !r.word("true") {
			return false
		}
		v.SetBool(is)
		return true
	}
	return r.integer(v)
}

func (r *reader) theirs(v reflect.Value) bool {
	raw, ok := r.raw()
	return ok && json.Unmarshal(raw, v.Addr().Interface()) == nil
}

// each calls f for each element of what stands between open and end.
func (r *reader) each(open, end byte, f func() bool) bool {
	if !r.take(open) {
		return false
	}
	if r.take(end) {
		return true
	}
	for f() {
		if r.take(end) {
			return true
		}
		if !r.take(',') {
			return false
		}
	}
	return false
}

func (r *reader) object(v reflect.Value, fields []field) bool {
	next := 0 // what we have written has its fields in their order
	return r.each('{', '}', func() bool {
		name, ok := r.plain()
		if !ok || !r.take(':') {
			return false
		}
		for i := range fields {
			at := (next + i) % len(fields)
			if fields[at].name == string(name) {
				next = at + 1
				return r.value(v.Field(fields[at].index))
			}
		}
		for i := range fields {
			if strings.EqualFold(fields[i].name, string(name)) {
				return false
			}
		}
		raw, ok := r.raw()
		return ok && json.Valid(raw)
	})
}

func (r *reader) entries(v reflect.Value) bool {
	t := v.Type()
	if v.IsNil() {
		v.Set(reflect.MakeMap(t))
	}
	return r.each('{', '}', func() bool {
		var key string
		if !r.text(reflect.ValueOf(&key).Elem()) || !r.take(':') {
			return false
		}
		element := reflect.New(t.Elem()).Elem()
		if !r.value(element) {
			return false
		}
		v.SetMapIndex(reflect.ValueOf(key), element)
		return true
	})
}

func (r *reader) elements(v reflect.Value) bool {
	slice, n := v.Kind() == reflect.Slice, 0
	if slice {
		if v.Cap() > 0 { // the name comes again, and some of the first value may stay
			return false
		}
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	}
	ok := r.each('[', ']', func() bool {
		n++
		if slice {
			v.Grow(1)
			v.SetLen(n)
		} else if n > v.Len() {
			return false
		}
		return r.value(v.Index(n - 1))
	})
	for ; ok && n < v.Len(); n++ { // of an array
		v.Index(n).SetZero()
	}
	return ok
}

// plain gives a string that stands for itself.
func (r *reader) plain() ([]byte, bool) {
	if !r.take('"') {
		return nil, false
	}
	start := r.at
	for ; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; {
		case c == '"':
			r.at++
			return r.data[start : r.at-1], true
		case c < ' ', c == '\\', c > '~':
			return nil, false
		}
	}
	return nil, false
}

func (r *reader) text(v reflect.Value) bool {
	r.space()
	start := r.at
	if s, ok := r.plain(); ok {
		v.SetString(string(s))
		return true
	}
	r.at = start
	return r.space() == '"' && r.theirs(v)
}

func (r *reader) integer(v reflect.Value) bool {
	negative := r.take('-')
	start, n := r.at, uint64(0)
	for ; r.at < len(r.data) && r.data[r.at] >= '0' && r.data[r.at] <= '9'; r.at++ {
		n = n*10 + uint64(r.data[r.at]-'0')
	}
	switch digits := r.at - start; {
	case digits == 0, digits > 18, digits > 1 && r.data[start] == '0', r.at < len(r.data) && inWord(r.data[r.at]):
		r.at = start
		if negative {
			r.at--
		}
		return r.theirs(v)
	case v.CanInt():
		i := int64(n)
		if negative {
			i = -i
		}
		if v.OverflowInt(i) {
			return false
		}
		v.SetInt(i)
	case v.CanUint() && !negative && !v.OverflowUint(n):
		v.SetUint(n)
	default:
		return false
	}
	return true
}

// raw gives the text of a value, which may be wrong inside.
func (r *reader) raw() ([]byte, bool) {
	r.space()
	start, depth, quoted := r.at, 0, false
	for ; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; {
		case quoted:
			if c == '\\' {
				r.at++
			}
			quoted = c != '"'
			if !quoted && depth == 0 {
				r.at++
				return r.data[start:r.at], true
			}
		case c == '"':
			quoted = true
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			if depth == 0 {
				return r.data[start:r.at], r.at > start
			}
			if depth--; depth == 0 {
				r.at++
				return r.data[start:r.at], true
			}
		case depth == 0 && !inWord(c):
			return r.data[start:r.at], r.at > start
		}
	}
	r.at = min(r.at, len(r.data))
	return r.data[start:r.at], r.at > start && !quoted && depth == 0
}
