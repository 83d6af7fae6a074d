package cli

// imageCommands is `cove image` and the commands beside it.
func imageCommands() []entry {
	top := imageVerbs()
	for i := range top {
		switch top[i].name {
		case "rm":
			top[i].name, top[i].aliases = "rmi", nil
		case "ls":
			top[i].name, top[i].aliases = "images", nil
		}
	}
	top = append(top, notYet("build", "builder", "buildx", "manifest", "search", "trust")...)
	return append(top, group("image", "Manage images", func() []entry {
		return append(append(imageVerbs(),
			entry{name: "diff", short: "Inspect changes to the image's file systems", build: imageDiffCommand},
			entry{name: "exists", short: "Check if an image exists in local storage", build: imageExistsCommand},
			entry{name: "inspect", short: "Display the configuration of an image", build: imageInspectCommand},
			entry{name: "prune", short: "Remove unused images", build: imagePruneCommand},
		), notYet("build", "mount", "scp", "search", "sign", "tree", "trust", "umount", "unmount")...)
	}))
}

// imageVerbs are the commands that stand in the group and alone.
func imageVerbs() []entry {
	return []entry{
		{name: "history", short: "Show history of a specified image", build: imageHistoryCommand},
		{name: "import", short: "Import a tarball to create a filesystem image", build: imageImportCommand},
		{name: "load", short: "Load image(s) from a tar archive", build: imageLoadCommand},
		{name: "ls", aliases: []string{"list"}, short: "List images in local storage", build: imageListCommand},
		{name: "pull", short: "Pull an image from a registry", build: imagePullCommand},
		{name: "push", short: "Push an image to a specified destination", build: imagePushCommand},
		{name: "rm", aliases: []string{"remove"}, short: "Remove one or more images from local storage", build: imageRemoveCommand},
		{name: "save", short: "Save image(s) to an archive", build: imageSaveCommand},
		{name: "tag", short: "Add an additional name to a local image", build: imageTagCommand},
		{name: "untag", short: "Remove a name from a local image", build: imageUntagCommand},
	}
}
