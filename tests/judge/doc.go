// Package judge runs the generated kernels under the emulator's modes Check and
// Explore, which look for data races, missing fences and waits without end, and
// damaged kernels to see that these are found.
package judge
