"""Lists, newest first, a page at a time. The cursor is the id of the last item: ids sort by age."""

import re
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Select
from sqlalchemy.orm import Session

from core import errors

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=200, description="Items a page.")]
PageCursor = Annotated[str | None, Query(max_length=64, description="`next_page` of the page before.")]


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next_page: str | None = Field(description="The `page` parameter of the next page; null on the last.")


def page_of(
    session: Session,
    query: Select[Any],
    order_by: Any,
    page: str | None,
    limit: int,
    request: Request,
    response: Response,
) -> tuple[list[Any], str | None]:
    """The rows of one page and the next cursor; says the next page in `Link` too (RFC 8288)."""
    if page is not None:
        if not re.fullmatch(r"[a-z]+_[0-9a-z]{26}", page):
            raise errors.InvalidQuery("`page` must be the `next_page` of an earlier answer.")
        query = query.where(order_by < page)
    rows = list(session.scalars(query.order_by(order_by.desc()).limit(limit + 1)))
    if len(rows) <= limit:
        return rows, None
    cursor = rows[limit - 1].id
    following = request.url.include_query_params(page=cursor)
    response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    return rows[:limit], cursor
