package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
)

func imagePushCommand(a *app) *cobra.Command {
	var (
		o          image.PushOptions
		t          transferFlags
		level      int
		passphrase string
	)
	c := &cobra.Command{
		Use: "push [options] IMAGE [DESTINATION]",
		Long: "Pushes a source image to a specified destination.\n" +
			"  The destination is a name at a registry, with or without docker://, or a place of another transport:\n" +
			"  dir:PATH, docker-archive:PATH[:NAME], docker-daemon:NAME, oci:PATH[:TAG], oci-archive:PATH[:TAG]. Without one it is the image's own name.",
		Example: "  cove push imageID docker://registry.example.com/repository:tag\n" +
			"  cove push imageID oci-archive:/path/to/layout:image:tag",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeLocalImages(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkPush(o); err != nil {
				return err
			}
			var err error
			if o.Transfer, err = t.transfer(a, c.Flags()); err != nil {
				return err
			}
			o.CompressionLevel = changed(c.Flags(), "compression-level", level)
			if passphrase != "" {
				data, err := os.ReadFile(passphrase)
				if err != nil {
					return fmt.Errorf("reading --sign-passphrase-file: %w", err)
				}
				o.SignPassphrase = strings.TrimRight(string(data), "\r\n")
			}
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			destination := ""
			if len(args) == 2 {
				destination = args[1]
			}
			_, err = eng.PushImage(c.Context(), args[0], destination, o)
			return err
		},
	}
	fs := c.Flags()
	fs.StringVar(&o.Compression, "compression-format", "", "compression format to use")
	fs.IntVar(&level, "compression-level", 0, "compression level to use")
	fs.StringVar(&o.DigestFile, "digestfile", "", "Write the digest of the pushed image to the specified file")
	fs.BoolVar(&o.ForceCompression, "force-compression", false, "Use the specified compression algorithm even if the destination contains a differently-compressed variant already")
	fs.StringVarP(&o.Format, "format", "f", "", "Manifest type (oci, v2s2, or v2s1) to use in the destination (default is manifest type of source, with fallbacks)")
	fs.BoolVar(&o.RemoveSignatures, "remove-signatures", false, "Discard any pre-existing signatures in the image")
	fs.StringVar(&o.SignBy, "sign-by", "", "Add a signature at the destination using the specified key")
	fs.StringVar(&passphrase, "sign-passphrase-file", "", "Read a passphrase for signing an image from `PATH`")
	t.flags(fs)
	refuse(fs, []unsupported{
		{name: "platform"}, // docker's
		{name: "add-compression"}, {name: "all-tags", short: "a", bool: true}, {name: "compress", bool: true},
		{name: "encryption-key"}, {name: "encrypt-layer"}, {name: "sign-by-sigstore"},
		{name: "sign-by-sigstore-private-key"},
	})
	return c
}

// checkPush refuses values that no push knows.
func checkPush(o image.PushOptions) error {
	if f := o.Format; f != "" && !slices.Contains([]string{"oci", "v2s1", "v2s2"}, f) {
		return usagef("unknown format %q, choose from: oci, v2s1, v2s2", f)
	}
	known := []string{"gzip", "zstd", "zstd:chunked"}
	if f := o.Compression; f != "" && !slices.Contains(known, f) {
		return usagef("unknown compression format %q, choose from: %s", f, strings.Join(known, ", "))
	}
	return nil
}
