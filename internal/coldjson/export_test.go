package coldjson

import "reflect"

// Short writes v the short way and reads that into a new value of its type; rest is
// what could not be read.
func Short(v reflect.Value) (written bool, rest []byte) {
	var w writer
	if !w.value(v) {
		return false, nil
	}
	r := reader{data: w.data}
	if !r.value(reflect.New(v.Type().Elem()).Elem()) {
		return true, r.data[r.at:]
	}
	return true, nil
}
