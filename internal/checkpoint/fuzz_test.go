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

// Whatever an archive says, reading it ends, and unpacking it makes files below
// the directory it was told and nowhere else.
func FuzzArchive(f *testing.F) {
	var b bytes.Buffer
	w := NewWriter(&b)
	w.Config(ConfigOf(&cove.Container{ID: "x", Name: "y"}))
	w.Deleted([]string{"/gone"})
	w.Directory(Images, f.TempDir())
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	b.Reset()
	tw := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: Images + "/", Typeflag: tar.TypeDir},
		{Name: Images + "/" + parent, Typeflag: tar.TypeSymlink, Linkname: "/"},
		{Name: Previous + "/../x.img", Typeflag: tar.TypeReg},
		{Name: volumes + "../v.tar", Typeflag: tar.TypeReg},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
	}
	_ = tw.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = ReadHead(bytes.NewReader(data))
		dir := t.TempDir()
		in := filepath.Join(dir, "in")
		if err := os.Mkdir(in, 0o700); err != nil {
			t.Fatal(err)
		}
		drop := func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }
		_ = Unpack(bytes.NewReader(data), Parts{Dir: in, Changes: drop, Volume: func(_ string, r io.Reader) error { return drop(r) }})
		if got, err := os.ReadDir(dir); err != nil || len(got) != 1 {
			t.Errorf("beside the directory: %v, %v", got, err)
		}
	})
}
