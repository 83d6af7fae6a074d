package state

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// keepUnknown gives fresh, the JSON of record, with those fields of stored
// added that record's type does not know, at the top level and in "spec": a
// newer cove's fields survive an older cove's write.
func keepUnknown(stored, fresh []byte, record any) ([]byte, error) {
	t := structOf(reflect.TypeOf(record))
	if t == nil {
		return fresh, nil // the caller stores what it decoded itself
	}
	var was map[string]json.RawMessage
	if err := json.Unmarshal(stored, &was); err != nil {
		return nil, fmt.Errorf("stored record: %w", err)
	}
	known := fields(t)
	extra := unknown(was, known)
	var specExtra map[string]json.RawMessage
	if spec := structOf(known["spec"]); spec != nil && was["spec"] != nil {
		var wasSpec map[string]json.RawMessage
		if json.Unmarshal(was["spec"], &wasSpec) == nil {
			specExtra = unknown(wasSpec, fields(spec))
		}
	}
	schema := was["schema"]
	if !newer(schema, record) {
		schema = nil
	}
	if len(extra) == 0 && len(specExtra) == 0 && schema == nil {
		return fresh, nil
	}
	fresh, err := add(fresh, extra)
	if err == nil && schema != nil {
		fresh, err = add(fresh, map[string]json.RawMessage{"schema": schema})
	}
	if err == nil && len(specExtra) > 0 {
		var top struct {
			Spec json.RawMessage `json:"spec"`
		}
		if err = json.Unmarshal(fresh, &top); err != nil || top.Spec == nil {
			return fresh, err
		}
		if top.Spec, err = add(top.Spec, specExtra); err == nil {
			fresh, err = add(fresh, map[string]json.RawMessage{"spec": top.Spec})
		}
	}
	return fresh, err
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

// add sets fields of a JSON object.
func add(object []byte, fields map[string]json.RawMessage) ([]byte, error) {
	if len(fields) == 0 {
		return object, nil
	}
	m := map[string]json.RawMessage{}
	if err := json.Unmarshal(object, &m); err != nil {
		return nil, err
	}
	for k, v := range fields {
		m[k] = v
	}
	return json.Marshal(m)
}

// unknown picks the fields of a JSON object that are not known. Names compare
// as encoding/json does when decoding, without regard to case.
func unknown(object map[string]json.RawMessage, known map[string]reflect.Type) map[string]json.RawMessage {
	var extra map[string]json.RawMessage
	for k, v := range object {
		if _, ok := known[strings.ToLower(k)]; ok {
			continue
		}
		if extra == nil {
			extra = map[string]json.RawMessage{}
		}
		extra[k] = v
	}
	return extra
}

// structOf gives the struct that t is or points to when encoding/json writes
// it field by field, else nil.
func structOf(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct || t.Implements(reflect.TypeFor[json.Marshaler]()) ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()) {
		return nil
	}
	return t
}

// fields maps the JSON names of t's fields, in lower case, to their types.
func fields(t reflect.Type) map[string]reflect.Type {
	m := make(map[string]reflect.Type, t.NumField())
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
		m[strings.ToLower(name)] = f.Type
	}
	return m
}
