package emu

// asyncState is what a warp has under way with the copy engines.
type asyncState struct{}

type mbarCheck struct{}

func (c *checker) wrapAsync(p *program, in *inst, orig execFn) visibility { return visible }
