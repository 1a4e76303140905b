//! Tests of the workspace as a whole: its arrows and its files.
