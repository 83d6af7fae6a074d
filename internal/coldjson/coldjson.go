// Package coldjson reads and writes JSON as encoding/json does, for processes
// that meet each type once: the monitor, init, and cove on its way to a start.
// encoding/json makes tables of a type before its first value, which costs a
// process that ends after that value several times what the value does, and a
// monitor a seventh of its memory for as long as its container lives. What
// is out of the ordinary here, and everything that is wrong, is encoding/json's
// to decide, so the answers and the errors are its own.
package coldjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// form is how values of a type are written.
type form struct {
	of   reflect.Type
	kind kind
	// fields of a struct, in their order.
	fields []field
}

type kind uint8

const (
	plain   kind = iota // by its reflect.Kind
	theirs              // a value of it is encoding/json's
	foreign             // what holds a value of it is
)

type field struct {
	name      string
	index     int
	omitEmpty bool
	omitZero  bool
}

var (
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	marshaler       = reflect.TypeFor[json.Marshaler]()
	textMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	isZeroer        = reflect.TypeFor[interface{ IsZero() bool }]()
)

// forms are those met so far: few, so they are searched.
var forms struct {
	sync.Mutex
	met []form
}

func formOf(t reflect.Type) form {
	forms.Lock()
	defer forms.Unlock()
	for i := range forms.met {
		if forms.met[i].of == t {
			return forms.met[i]
		}
	}
	f := makeForm(t)
	forms.met = append(forms.met, f)
	return f
}

func makeForm(t reflect.Type) form {
	f := form{of: t}
	if t.PkgPath() != "" && t.Kind() != reflect.Interface {
		// With a pointer's methods encoding/json asks whether there is a pointer.
		p := reflect.PointerTo(t)
		switch reads, writes := p.Implements(unmarshaler) || p.Implements(textUnmarshaler), t.Implements(marshaler) || t.Implements(textMarshaler); {
		case reads != writes, p.Implements(marshaler) && !t.Implements(marshaler), p.Implements(textMarshaler) && !t.Implements(textMarshaler):
			f.kind = foreign
			return f
		case reads:
			f.kind = theirs
			return f
		}
	}
	switch t.Kind() {
	case reflect.Struct:
		f.fields = make([]field, 0, t.NumField())
		for i := range t.NumField() {
			sf := t.Field(i)
			tag := sf.Tag.Get("json")
			name, options, _ := strings.Cut(tag, ",")
			switch {
			case sf.Anonymous, options != "" && !known(options), !plainName(name):
				f.kind = foreign
				return f
			case !sf.IsExported(), tag == "-":
				continue
			case name == "":
				name = sf.Name
			}
			omitZero := strings.Contains(options, "omitzero")
			if omitZero && reflect.PointerTo(sf.Type).Implements(isZeroer) && (sf.Type.Kind() != reflect.Struct || !sf.Type.Implements(isZeroer)) {
				f.kind = foreign
				return f
			}
			f.fields = append(f.fields, field{name, i, strings.Contains(options, "omitempty"), omitZero})
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 { // base64
			f.kind = theirs
		}
	case reflect.Map:
		if k := t.Key(); k.Kind() != reflect.String || k.PkgPath() != "" {
			f.kind = foreign
		}
	case reflect.Float32, reflect.Float64:
		f.kind = theirs
	case reflect.Interface, reflect.Complex64, reflect.Complex128, reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Uintptr:
		f.kind = foreign
	}
	return f
}

func known(options string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o != "omitempty" && o != "omitzero" {
			return false
		}
	}
	return true
}

// plainName tells whether a name stands in JSON as it is.
func plainName(name string) bool {
	for i := range len(name) {
		if !plainByte(name[i]) {
			return false
		}
	}
	return true
}

// plainByte tells whether a byte of a string stands in JSON as it is, and in
// what encoding/json writes.
func plainByte(c byte) bool {
	return c >= ' ' && c < 0x7f && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
}
