package library_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"go.podman.io/common/libimage"

	"github.com/cove-engine/cove/internal/image"
)

// TestImageData: every field of the library's description survives the change
// of type, under the same name and with the same JSON, filled or empty.
func TestImageData(t *testing.T) {
	full := &libimage.ImageData{}
	n := 0
	fill(reflect.ValueOf(full).Elem(), &n)
	hollow := &libimage.ImageData{Config: full.Config, RootFS: &libimage.RootFS{}, GraphDriver: &libimage.DriverData{}, History: full.History[:0]}
	for name, d := range map[string]*libimage.ImageData{"full": full, "empty": {}, "hollow": hollow} {
		want, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var ours image.ImageData
		if err := json.Unmarshal(want, &ours); err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(ours)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	sameFields(t, "ImageData", reflect.TypeFor[libimage.ImageData](), reflect.TypeFor[image.ImageData]())
}

// fill gives everything in v a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 0).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("text " + string(rune('a'+*n)))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	}
}

// sameFields: templates written for podman name Go fields.
func sameFields(t *testing.T, path string, theirs, ours reflect.Type) {
	for theirs.Kind() == reflect.Pointer || theirs.Kind() == reflect.Slice {
		if ours.Kind() != theirs.Kind() {
			t.Errorf("%s is %v, want %v", path, ours, theirs)
			return
		}
		theirs, ours = theirs.Elem(), ours.Elem()
	}
	if theirs.Kind() != reflect.Struct || theirs == ours {
		return
	}
	for f := range theirs.Fields() {
		g, ok := ours.FieldByName(f.Name)
		if !ok {
			t.Errorf("%s.%s is missing", path, f.Name)
			continue
		}
		sameFields(t, path+"."+f.Name, f.Type, g.Type)
	}
}
