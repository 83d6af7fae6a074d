package cli

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

type cpOptions struct {
	*app
	overwrite, quiet bool
}

func cpCommand(a *app) *cobra.Command {
	o := &cpOptions{app: a}
	c := &cobra.Command{
		Use: "cp [options] [CONTAINER:]SRC_PATH [CONTAINER:]DEST_PATH",
		Long: `Copies the contents of SRC_PATH to the DEST_PATH.

  You can copy from the container's file system to the local machine or the reverse, from the local filesystem to the container. If "-" is specified for either the SRC_PATH or DEST_PATH, you can also stream a tar archive from STDIN or to STDOUT. The CONTAINER can be a running or stopped container. The SRC_PATH or DEST_PATH can be a file or a directory.

Exit codes:
  125  the container or a path is missing, or the copy failed`,
		Example: `  cove cp /myapp/app.conf containerID:/myapp/app.conf
  cove cp containerID:/home/myuser/myfiles.tar .`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("accepts 2 arg(s), received %d", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), args[0], args[1]) },
	}
	// podman gives them to the container's user either way, docker without it.
	c.Flags().BoolP("archive", "a", true, "Chown copied files to the primary uid/gid of the destination container (always done)")
	c.Flags().BoolVar(&o.overwrite, "overwrite", false, "Allow to overwrite directories with non-directories and vice versa")
	c.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "Suppress progress output (there is none)")
	refuse(c.Flags(), []unsupported{{name: "follow-link", short: "L", bool: true}, {name: "pause", bool: true, accept: []string{"true", "false"}}})
	c.Flags().Lookup("quiet").Hidden = true
	return c
}

// splitCopy tells CONTAINER:PATH from a local path: one that begins with / or
// . or has no colon is local.
func splitCopy(arg string) (container, p string) {
	if strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return "", arg
	}
	if c, p, ok := strings.Cut(arg, ":"); ok && c != "" {
		return c, p
	}
	return "", arg
}

func (o *cpOptions) run(ctx context.Context, src, dst string) error {
	sc, sp := splitCopy(src)
	dc, dp := splitCopy(dst)
	if sp == "" || dp == "" {
		return errors.New("invalid arguments: you must specify paths")
	}
	if sc == "" && dc == "" {
		return errors.New("invalid arguments: you must specify one container")
	}
	e, err := o.engine()
	if err != nil {
		return err
	}
	switch {
	case sc != "" && dc != "":
		return o.between(ctx, e, sc, sp, dc, dp)
	case sc != "":
		return o.from(ctx, e, sc, sp, dp)
	}
	return o.to(ctx, e, sp, dc, dp)
}

// placement says where a source goes: the directory to unpack in and the
// name of the first entry there; name "" unpacks a directory's contents.
type placement struct{ dir, name string }

// contents tells whether a directory's contents are meant and not itself.
func contents(src string) bool { return src == "." || strings.HasSuffix(src, "/.") }

// place finds the placement of a source under docker's rules: into an
// existing directory under its own name, else under the destination's name;
// "dir/." copies the contents.
func place(srcPath string, srcDir bool, dst string, dstExists, dstDir, overwrite bool) (placement, error) {
	contents := srcDir && contents(srcPath)
	base := path.Base(path.Clean(srcPath))
	slash := strings.HasSuffix(dst, "/") || strings.HasSuffix(dst, "/.")
	dst = path.Clean(dst)
	switch {
	case dstExists && dstDir && contents:
		return placement{dst, ""}, nil
	case dstExists && dstDir:
		if base == "/" || base == "." || base == ".." {
			return placement{dst, ""}, nil
		}
		return placement{dst, base}, nil
	case dstExists && srcDir && !overwrite:
		return placement{}, errors.New("destination must be a directory when copying a directory")
	case !dstExists && slash && !srcDir:
		return placement{}, fmt.Errorf("destination directory %q does not exist", dst)
	}
	return placement{path.Dir(dst), path.Base(dst)}, nil
}

// containerPlace is place for a destination inside a container.
func (o *cpOptions) containerPlace(ctx context.Context, e Engine, name, dst, srcPath string, srcDir bool) (placement, error) {
	if !path.IsAbs(dst) {
		c, err := e.Container(ctx, name, false)
		if err != nil {
			return placement{}, err
		}
		wd := c.Spec.WorkDir
		if wd == "" {
			wd = c.Image.WorkDir
		}
		if wd == "" {
			wd = "/"
		}
		tail := ""
		if strings.HasSuffix(dst, "/") || strings.HasSuffix(dst, "/.") {
			tail = "/"
		}
		dst = path.Join(wd, dst) + tail
	}
	st, _, err := e.StatPath(ctx, name, path.Clean(dst))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return placement{}, err
	}
	if err != nil {
		if _, cerr := e.Container(ctx, name, false); cerr != nil {
			return placement{}, cerr
		}
		return place(srcPath, srcDir, dst, false, false, o.overwrite)
	}
	// A symbolic link as destination is followed inside the container.
	return place(srcPath, srcDir, dst, true, st.IsDir() || st.Mode()&fs.ModeSymlink != 0, o.overwrite)
}

// from copies out of a container.
func (o *cpOptions) from(ctx context.Context, e Engine, name, src, dst string) error {
	r, err := e.CopyFrom(ctx, name, src)
	if err != nil {
		return err
	}
	defer r.Close()
	if dst == "-" && !contents(src) {
		_, err := io.Copy(o.Out, r)
		return err
	}
	tr := tar.NewReader(r)
	first, err := tr.Next()
	if err != nil {
		return fmt.Errorf("copy from %s:%s: %w", name, src, err)
	}
	if dst == "-" {
		return rename(o.Out, tr, first, "")
	}
	if first.Typeflag == tar.TypeChar || first.Typeflag == tar.TypeBlock {
		return fmt.Errorf("copy from %s:%s: devices are not copied out of a container", name, src)
	}
	st, serr := os.Stat(dst)
	to, err := place(src, first.Typeflag == tar.TypeDir, filepath.ToSlash(dst), serr == nil, serr == nil && st.IsDir(), o.overwrite)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(to.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return unpack(root, tr, first, to.name, o.overwrite)
}

// to copies into a container.
func (o *cpOptions) to(ctx context.Context, e Engine, src, name, dst string) error {
	if src == "-" {
		st, _, err := e.StatPath(ctx, name, path.Clean("/"+dst))
		if err != nil {
			return err
		}
		if !st.IsDir() && st.Mode()&fs.ModeSymlink == 0 {
			return errors.New("destination must be a directory when copying from stdin")
		}
		if err := e.NeedImages(); err != nil { // for xz and zstd; the input could not be read once more
			return err
		}
		in := bufio.NewReader(o.In)
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return errors.New("source must be a (compressed) tar archive when copying from stdin")
		}
		return e.CopyTo(ctx, name, dst, in, false, o.overwrite)
	}
	st, err := os.Stat(src)
	if err != nil {
		return err
	}
	to, err := o.containerPlace(ctx, e, name, dst, filepath.ToSlash(src), st.IsDir())
	if err != nil {
		return err
	}
	return pipe(func(w io.Writer) error { return pack(w, src, to.name) },
		func(r io.Reader) error { return e.CopyTo(ctx, name, to.dir, r, false, o.overwrite) })
}

// between copies from container to container.
func (o *cpOptions) between(ctx context.Context, e Engine, sc, sp, dc, dp string) error {
	r, err := e.CopyFrom(ctx, sc, sp)
	if err != nil {
		return err
	}
	defer r.Close()
	tr := tar.NewReader(r)
	first, err := tr.Next()
	if err != nil {
		return fmt.Errorf("copy from %s:%s: %w", sc, sp, err)
	}
	to, err := o.containerPlace(ctx, e, dc, dp, sp, first.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	return pipe(func(w io.Writer) error { return rename(w, tr, first, to.name) },
		func(r io.Reader) error { return e.CopyTo(ctx, dc, to.dir, r, false, o.overwrite) })
}

// pipe runs make and take joined by a pipe and gives the error that came
// first.
func pipe(fill func(io.Writer) error, take func(io.Reader) error) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := fill(w)
		w.CloseWithError(err)
		done <- err
	}()
	err := take(r)
	r.CloseWithError(err)
	ferr := <-done
	if err == nil || errors.Is(ferr, err) || errors.Is(err, ferr) {
		return err
	}
	if errors.Is(ferr, io.ErrClosedPipe) || ferr == nil {
		return err
	}
	return errors.Join(err, ferr)
}
