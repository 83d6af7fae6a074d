package checkpoint

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cove-engine/cove"
)

// TestArchive writes an archive and reads it again.
func TestArchive(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{inventory: "i", "pages-1.img": "p"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	w := NewWriter(&b)
	w.Config(ConfigOf(&cove.Container{ID: "x", Name: "y"}))
	w.Networks(&cove.Container{})
	w.Deleted([]string{"/gone"})
	w.Log(filepath.Join(from, "none"))
	w.Directory(Images, from)
	sparse, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	if err := sparse.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	w.Changes(sparse)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := ReadHead(bytes.NewReader(b.Bytes()))
	if err != nil || !h.Whole || h.Config.Cove.Name != "y" || len(h.Deleted) != 1 {
		t.Fatalf("%+v, %v", h, err)
	}
	if want := int64(len("ip")); h.Size != want {
		t.Errorf("it takes %d bytes; want %d: what is unpacked with holes does not count", h.Size, want)
	}
	if err := Unpack(bytes.NewReader(b.Bytes()), Parts{Dir: to, Changes: func(io.Reader) error { return nil }}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(to, Images, "pages-1.img")); err != nil || string(data) != "p" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestUnpackHostile: nothing of an archive gets out of the directories of images.
func TestUnpackHostile(t *testing.T) {
	dir := t.TempDir()
	to := filepath.Join(dir, "in")
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: Images + "/", Typeflag: tar.TypeDir},
		{Name: Images + "/../../out", Typeflag: tar.TypeReg, Size: 1},
		{Name: "../out", Typeflag: tar.TypeReg, Size: 1},
		{Name: Images + "/out", Typeflag: tar.TypeSymlink, Linkname: dir},
		{Name: Images + "/out/x", Typeflag: tar.TypeReg, Size: 1},
		{Name: Images + "/" + parent, Typeflag: tar.TypeSymlink, Linkname: dir},
		{Name: Images + "/.hidden", Typeflag: tar.TypeReg, Size: 1},
		{Name: "run", Typeflag: tar.TypeReg, Size: 1},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = io.WriteString(w, "x")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(&b, Parts{Dir: to}); err != nil {
		t.Fatal(err)
	}
	var got []string
	_ = filepath.WalkDir(dir, func(p string, _ os.DirEntry, _ error) error { got = append(got, p); return nil })
	if link, _ := os.Readlink(filepath.Join(to, Images, parent)); len(got) != 4 || link != "../"+Previous {
		t.Errorf("%v, %s", got, link)
	}
}
