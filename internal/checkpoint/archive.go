package checkpoint

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// What a checkpoint consists of, by the names that it has in podman's archive.
// Images, Previous and Work lie in a container's directory too.
const (
	Images    = "checkpoint"
	Previous  = "pre-checkpoint"
	Work      = "criu"
	config    = "config.dump" // [Config]
	spec      = "spec.dump"   // the OCI configuration
	networks  = "network.status"
	log       = "ctr.log"
	changes   = "rootfs-diff.tar"
	deleted   = "deleted.files" // JSON list of paths
	volumes   = "volumes/"      // NAME.tar
	inventory = "inventory.img"
	parent    = "parent" // a link to the previous images
	maxText   = 32 << 20 // of a file that is read into memory, bytes
)

// Config is what config.dump says of the container: podman's names where others
// read them, and cove's record.
type Config struct {
	ID           string          `json:"id"`
	Name         string          `json:"name"`
	Image        string          `json:"rootfsImageName,omitempty"`
	ImageID      string          `json:"rootfsImageID,omitempty"`
	Runtime      string          `json:"ociRuntime,omitempty"`
	Created      time.Time       `json:"createdTime"`
	Checkpointed time.Time       `json:"checkpointedTime,omitzero"`
	Cove         *cove.Container `json:"cove,omitempty"`
}

// ConfigOf is the configuration of a container.
func ConfigOf(c *cove.Container) Config {
	return Config{
		ID: c.ID, Name: c.Name, Image: c.Image.Name, ImageID: c.Image.ID, Runtime: path.Base(c.Spec.Runtime),
		Created: c.Created, Checkpointed: c.Run.Checkpointed, Cove: c,
	}
}

// Writer writes an archive. Its first error is told by Close.
type Writer struct {
	tw  *tar.Writer
	err error
}

// NewWriter begins an archive.
func NewWriter(w io.Writer) *Writer { return &Writer{tw: tar.NewWriter(w)} }

// Close ends it.
func (w *Writer) Close() error {
	if w.err == nil {
		w.err = w.tw.Close()
	}
	return w.err
}

// Config, Spec, Networks and Deleted write the file of that name.
func (w *Writer) Config(c Config)            { w.json(config, c) }
func (w *Writer) Spec(s json.RawMessage)     { w.json(spec, s) }
func (w *Writer) Deleted(paths []string)     { w.json(deleted, paths) }
func (w *Writer) Networks(c *cove.Container) { w.json(networks, networkStatus(c)) }

// Changes writes what the container has changed of its image, a tar stream.
func (w *Writer) Changes(f *os.File) { w.file(changes, f) }

// Volume writes the content of a volume, a tar stream.
func (w *Writer) Volume(name string, f *os.File) { w.file(volumes+name+".tar", f) }

// Log and Statistics write the file at name; one that is not there is left out.
func (w *Writer) Log(name string)        { w.path(log, name) }
func (w *Writer) Statistics(name string) { w.path(DumpStatistics, name) }

// Directory writes the directory of images dir as name.
func (w *Writer) Directory(name, dir string) {
	entries, err := os.ReadDir(dir)
	w.fail(err)
	w.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o700})
	for _, e := range entries {
		if e.Type() == fs.ModeSymlink && e.Name() == parent {
			w.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name + "/" + parent, Linkname: "../" + Previous, Mode: 0o777})
		} else if e.Type().IsRegular() {
			w.path(name+"/"+e.Name(), path.Join(dir, e.Name()))
		}
	}
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *Writer) header(h *tar.Header) {
	h.ModTime = time.Now().Truncate(time.Second)
	if w.err == nil {
		w.fail(w.tw.WriteHeader(h))
	}
}

func (w *Writer) json(name string, v any) {
	data, err := json.MarshalIndent(v, "", "     ")
	w.fail(err)
	w.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(data))})
	if w.err == nil {
		_, err = w.tw.Write(data)
		w.fail(err)
	}
}

func (w *Writer) path(name, at string) {
	f, err := os.OpenFile(at, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if os.IsNotExist(err) {
		return
	}
	w.fail(err)
	if err == nil {
		w.file(name, f)
		_ = f.Close()
	}
}

// file writes a file from its beginning, as long as it is now.
func (w *Writer) file(name string, f *os.File) {
	info, err := f.Stat()
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	w.fail(err)
	if w.err != nil {
		return
	}
	w.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: info.Size()})
	if w.err == nil {
		_, err = io.CopyN(w.tw, f, info.Size())
		w.fail(err)
	}
}

// networkStatus is what podman's network library says of a container's
// networks.
func networkStatus(c *cove.Container) map[string]any {
	status := map[string]any{}
	for _, a := range c.Attachments {
		var subnets []map[string]string
		for i, p := range a.Addresses {
			s := map[string]string{"ipnet": p.String()}
			if i < len(a.Gateways) {
				s["gateway"] = a.Gateways[i].String()
			}
			subnets = append(subnets, s)
		}
		status[a.Network] = map[string]any{"interfaces": map[string]any{
			a.Interface: map[string]any{"subnets": subnets, "mac_address": a.MAC},
		}}
	}
	return status
}

// Head is what has to be known of an archive before it is unpacked.
type Head struct {
	Config  Config
	Deleted []string
	Whole   bool // it has a checkpoint, not the memory alone
	// Size is what those of its members say that they have, bytes, which are written as they
	// are, holes and all: the images and the log. It is at most the largest number. Changes and
	// volumes are tar streams, and are unpacked with their holes.
	Size int64
}

// ReadHead reads through an archive.
func ReadHead(r io.Reader) (*Head, error) {
	h := new(Head)
	known := false
	err := each(r, func(name string, e *tar.Header, content io.Reader) error {
		if dir := path.Dir(name); name == log || dir == Images || dir == Previous {
			h.Size += min(e.Size, math.MaxInt64-h.Size)
		}
		switch {
		case name == config:
			known = true
			return readJSON(name, content, &h.Config)
		case name == deleted:
			return readJSON(name, content, &h.Deleted)
		case name == Images+"/"+inventory:
			h.Whole = true
		}
		return nil
	})
	if err == nil && !known {
		err = fmt.Errorf("it has no %s", config)
	}
	return h, err
}

// Parts say where an archive is unpacked. The functions get a tar stream.
type Parts struct {
	Dir     string // gets the images
	Log     string // the container's; "" drops it
	Changes func(io.Reader) error
	Volume  func(name string, r io.Reader) error
}

// imageFile is what CRIU and the runtimes call their files.
var imageFile = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Unpack reads an archive. Nothing of it gets anywhere but where p says.
func Unpack(r io.Reader, p Parts) error {
	return each(r, func(name string, e *tar.Header, content io.Reader) error {
		dir, base := path.Split(name)
		switch {
		case name == Images || name == Previous:
			return makeDir(path.Join(p.Dir, name))
		case name == changes:
			return p.Changes(content)
		case name == log && p.Log != "":
			return write(p.Log, content)
		case dir == volumes && strings.HasSuffix(base, ".tar"):
			return p.Volume(strings.TrimSuffix(base, ".tar"), content)
		case dir != Images+"/" && dir != Previous+"/":
		case e.Typeflag == tar.TypeSymlink && base == parent:
			return os.Symlink("../"+Previous, path.Join(p.Dir, name))
		case e.Typeflag == tar.TypeReg && imageFile.MatchString(base):
			return write(path.Join(p.Dir, name), content)
		}
		return nil
	})
}

// each calls f for every member, whose name is relative and clean.
func each(r io.Reader, f func(name string, h *tar.Header, content io.Reader) error) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("not a checkpoint's archive: %w", err)
		}
		if err := f(path.Clean("/" + h.Name)[1:], h, tr); err != nil {
			return err
		}
	}
}

func readJSON(name string, r io.Reader, v any) error {
	data, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err == nil && len(data) > maxText {
		err = fmt.Errorf("it is too big")
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func makeDir(name string) error {
	err := os.Mkdir(name, 0o700)
	if os.IsExist(err) {
		return nil
	}
	return err
}

func write(name string, r io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
