//! Real files, as root: nothing may lead outside.
