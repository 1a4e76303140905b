//! `pipeline.toml`, for which DataFusion is compiled.

use std::path::Path;

use telltale_preprocessor::pipeline::Pipeline;

/// A pipeline that is accepted names where its streams come from and go to.
pub fn pipeline(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(pipeline) = Pipeline::parse(text, "pipeline.toml", Path::new("/nowhere")) else { return };
    assert!(!pipeline.streams.is_empty());
    for source in pipeline.sources() {
        assert!(pipeline.stream(source).is_some_and(|it| it.source != it.target));
    }
}
